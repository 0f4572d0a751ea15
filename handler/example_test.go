package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
)

// orders is a feature: it receives an order once, replies, and tells the kitchen after
// the reply.
func orders(h *handler.Handler, kitchen io.Writer) error {
	return h.On("coffee.ordered", func(ctx context.Context, e event.Event) (*event.Event, error) {
		if string(e.Data()) == `"tea"` {
			return nil, handler.Permanent(errors.New("there is no tea")) // to the dead-letter sink
		}
		h.Go(ctx, "tell the kitchen", func(context.Context) error {
			_, err := fmt.Fprintln(kitchen, "make", string(e.Data()))
			return err
		})
		reply := event.New() // its id, source and time are filled in
		reply.SetType("coffee.accepted")
		return &reply, nil
	}, handler.Deduplicate(time.Hour))
}

// newHandler returns a handler as coffeebuddy.go wires it.
func newHandler() *handler.Handler {
	h, err := handler.New(handler.Config{
		App: "coffeebuddy", Environment: "prod", Version: "v1.0.0", Started: time.Now(),
		Ready:       func(context.Context) handler.Readiness { return handler.Readiness{Ready: true, JSON: []byte("{}\n")} },
		MetricsPath: "/metrics", Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		EventsInFlight: 32, EventTimeout: 10 * time.Second,
	})
	if err != nil {
		panic(err) // two metrics of one name
	}
	return h
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
	h := newHandler()
	var kitchen strings.Builder
	if err := orders(h, &kitchen); err != nil {
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
	h := newHandler()
	if err := errors.Join(
		h.On("com.slack.command", func(context.Context, event.Event) (*event.Event, error) { return nil, nil }),
		h.Mount("POST /slack/commands", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			e := event.New()
			e.SetType("com.slack.command")
			verdict := h.Dispatch(r.Context(), e)
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
	h := newHandler()
	if err := h.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) {
		return nil, handler.RetryAfter(time.Minute, errors.New("the machine warms up"))
	}); err != nil {
		fmt.Println(err)
		return
	}
	answer := order(h, `"espresso"`)
	fmt.Println(answer.Code, answer.Header().Get("Retry-After"))
	// Output: 503 60
}

func ExampleHandler_Go() {
	h := newHandler()
	h.Go(context.Background(), "descale", func(ctx context.Context) error {
		deadline, ok := ctx.Deadline()
		fmt.Println(ok, time.Until(deadline) > time.Minute)
		return nil
	}, handler.Within(time.Hour))
	if err := h.Wait(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: true true
}
