package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
)

// orders is a feature: it receives an order once, replies, and tells the kitchen after
// the reply.
func orders(h *events.Events, kitchen io.Writer) error {
	return h.On("coffee.ordered", func(ctx context.Context, e event.Event) (*event.Event, error) {
		if string(e.Data()) == `"tea"` {
			return nil, events.Permanent(errors.New("there is no tea")) // to the dead-letter sink
		}
		h.Go(ctx, "tell the kitchen", func(context.Context) error {
			_, err := fmt.Fprintln(kitchen, "make", string(e.Data()))
			return err
		})
		reply := event.New() // its id, source and time are filled in
		reply.SetType("coffee.accepted")
		return &reply, nil
	}, events.Deduplicate(time.Hour))
}

// newHandler returns an engine and its handler as coffeebuddy.go wires them.
func newHandler() (*events.Engine, *handler.Handler) {
	engine, err := events.New(events.Config{})
	if err != nil {
		panic(err) // two metrics of one name
	}
	h, err := handler.New(handler.Config{Events: engine})
	if err != nil {
		panic(err)
	}
	return engine, h
}

// order sends an order, as a broker does.
func order(h http.Handler, drink string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(drink))
	r.Header = http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {drink}, "Ce-Source": {"/counter"}, "Ce-Type": {"coffee.ordered"},
		"Content-Type": {"application/json"},
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func Example() {
	e, h := newHandler()
	var kitchen strings.Builder
	if err := orders(e.Events, &kitchen); err != nil {
		fmt.Println(err)
		return
	}
	for _, drink := range []string{`"espresso"`, `"espresso"`, `"tea"`} {
		answer := order(h, drink)
		fmt.Println(answer.Code, answer.Header()["Ce-Type"], answer.Header()["Idempotent-Replayed"])
	}
	if err := h.Wait(context.Background()); err != nil { // as shutdown does
		fmt.Println(err)
	}
	fmt.Print(kitchen.String())
	// Output:
	// 200 [coffee.accepted] []
	// 200 [coffee.accepted] [true]
	// 422 [] []
	// make "espresso"
}

// A route of one's own turns what it gets into an event, and the verdict into what its
// sender understands.
func ExampleHandler_Mount() {
	engine, h := newHandler()
	if err := errors.Join(
		engine.On("com.slack.command", func(context.Context, event.Event) (*event.Event, error) { return nil, nil }),
		h.Mount("POST /slack/commands", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			e := event.New()
			e.SetType("com.slack.command")
			verdict := engine.Dispatch(r.Context(), e)
			fmt.Fprint(w, verdict.Outcome)
		})),
	); err != nil {
		fmt.Println(err)
		return
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/slack/commands", nil))
	fmt.Println(w.Body)
	// Output: accepted
}

func ExampleRetryAfter() {
	e, h := newHandler()
	if err := e.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) {
		return nil, events.RetryAfter(time.Minute, errors.New("the machine warms up"))
	}); err != nil {
		fmt.Println(err)
		return
	}
	answer := order(h, `"espresso"`)
	fmt.Println(answer.Code, answer.Header().Get("Retry-After"))
	// Output: 503 60
}

func Example_go() {
	e, h := newHandler()
	e.Go(context.Background(), "descale", func(ctx context.Context) error {
		deadline, ok := ctx.Deadline()
		fmt.Println(ok, time.Until(deadline) > time.Minute)
		return nil
	}, events.Within(time.Hour))
	if err := h.Wait(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: true true
}
