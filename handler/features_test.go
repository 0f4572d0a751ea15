package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

func command() event.Event {
	e := event.New()
	e.SetType("com.slack.command")
	_ = e.SetData("application/json", []byte(`{"text":"espresso"}`))
	return e
}

func TestDispatch(t *testing.T) {
	t.Parallel()
	canary := errors.New("canary")
	reply := event.New()
	reply.SetType("coffee.served")
	for _, test := range []struct {
		when    string
		receive events.Receiver
		want    events.Verdict
	}{
		{"accepted", answering(nil, nil), events.Verdict{Outcome: "accepted"}},
		{"a reply", answering(&reply, nil), events.Verdict{Outcome: "accepted", Reply: &reply}},
		{"refused", answering(nil, events.Permanent(canary)), events.Verdict{Outcome: "rejected"}},
		{"come back", answering(nil, events.RetryAfter(time.Minute, canary)), events.Verdict{Outcome: "retry", RetryAfter: time.Minute}},
		{"an error", answering(nil, canary), events.Verdict{Outcome: "failed"}},
		{"a panic", func(context.Context, event.Event) (*event.Event, error) { panic("canary") }, events.Verdict{Outcome: "failed"}},
		{"the goroutine's end", func(context.Context, event.Event) (*event.Event, error) { runtime.Goexit(); return nil, nil }, events.Verdict{Outcome: "failed"}},
	} {
		t.Run(test.when, func(t *testing.T) {
			is := is.New(t)
			f := newFunction(t) // whose environment is not dev
			is.NoErr(f.On("com.slack.command", test.receive))
			got := f.Dispatch(t.Context(), command())
			is.Equal(got.Reply != nil, test.want.Reply != nil)
			if got.Reply != nil {
				is.Equal(got.Reply.Type(), "coffee.served")
				is.Equal(got.Reply.Source(), "//coffeebuddy/coffeebuddy")
			}
			got.Reply, test.want.Reply = nil, nil
			is.Equal(got, test.want)
			is.Equal(f.series(`coffeebuddy_events_total{outcome="`+string(test.want.Outcome)+`"}`), "1")
			is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
		})
	}
}

func TestDispatchOfWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.Equal(f.Dispatch(t.Context(), event.Event{}), events.Verdict{Outcome: "malformed", Attribute: "specversion"})
	is.Equal(f.Dispatch(t.Context(), event.New()), events.Verdict{Outcome: "malformed", Attribute: "type"})
	is.Equal(f.Dispatch(t.Context(), command()), events.Verdict{Outcome: "unknown_type"})
	is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
}

func TestDispatchTakesAPlaceAndDeduplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t, func(c *config) { c.EventsInFlight = 1 })
		is.NoErr(f.On("com.slack.command", func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(time.Second)
			return nil, nil
		}, events.Deduplicate(time.Hour)))
		e := command()
		e.SetID("1")
		first := make(chan events.Verdict, 1)
		go func() { first <- f.Dispatch(t.Context(), e) }()
		synctest.Wait()
		is.Equal(f.Dispatch(t.Context(), e), events.Verdict{Outcome: "overloaded", RetryAfter: time.Second})
		is.Equal(f.order("1").Code, 503)
		is.Equal(<-first, events.Verdict{Outcome: "accepted"})
		is.Equal(f.Dispatch(t.Context(), e), events.Verdict{Outcome: "duplicate", First: "accepted"})
		is.NoErr(f.Wait(t.Context()))
		is.Equal(f.Dispatch(t.Context(), e).Outcome, events.Overloaded) // nothing more once all has been waited for
	})
}

func TestMountedRoute(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	var event1 event.Event
	is.NoErr(f.On("com.slack.command", func(_ context.Context, e event.Event) (*event.Event, error) {
		event1 = e
		return nil, errors.New("canary")
	}))
	is.NoErr(f.Mount("POST /slack/{kind}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		is.NoErr(err)
		f.Log().InfoContext(r.Context(), "mounted")
		f.Go(r.Context(), "announce", func(ctx context.Context) error {
			f.Log().InfoContext(ctx, "task")
			return nil
		})
		is.Equal(f.Dispatch(r.Context(), command()).Outcome, events.Failed)
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, r.PathValue("kind"), string(body))
	})))
	is.NoErr(f.Mount("GET /slack/panic", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("canary") })))
	is.Equal(f.series(`coffeebuddy_http_requests_total{code="200",method="POST",route="/slack/{kind}"}`), "0") // from the start

	w := f.ask("POST", "/slack/commands", "!", "X-Request-Id", "r-1", "Traceparent", traceparent)
	is.NoErr(f.Wait(t.Context()))
	is.Equal(w.Code, 500)
	is.Equal(w.Body.String(), "commands!")
	is.Equal(event1.Extensions()["traceparent"], traceparent) // the event is of the request's trace
	is.Equal(f.series(`coffeebuddy_http_requests_total{code="500",method="POST",route="/slack/{kind}"}`), "1")
	for _, line := range f.logs.lines(t) {
		if line["route"] != "/metrics" {
			is.Equal(line["request_id"], "r-1")
			is.Equal(line["trace_id"], traceID)
		}
	}
	is.Equal(f.ask("PUT", "/slack/commands", "").Code, 405)
	is.Equal(f.ask("GET", "/slack/panic", "").Code, 500)
	is.Equal(f.ask("POST", "/slack/commands/", "").Code, 404)
	is.Equal(f.series("coffeebuddy_http_panics_total"), "1")
}

func TestMountingMistakesAreErrors(t *testing.T) {
	t.Parallel()
	f := newFunction(t)
	serve := http.NotFoundHandler()
	is.New(t).NoErr(f.Mount("POST /slack/commands", serve))
	for _, pattern := range []string{
		"", "/x", "POST", "POST x", "BREW /x", "post /x", "POST example.com/x", "POST /", "POST /x/", "POST /{$}", "POST /x/{$}",
		"POST /x/{rest...}", "POST //x", "POST /a/../b", "POST /{", "POST /x/{}", "POST /{a}/{a}",
		"POST /slack/commands", "GET /health/live", "GET /metrics", "POST  /x",
	} {
		t.Run(pattern, func(t *testing.T) {
			is.New(t).True(f.Mount(pattern, serve) != nil)
		})
	}
	is.New(t).True(f.Mount("POST /y", nil) != nil)
}

func TestTraceOfAnEvent(t *testing.T) {
	t.Parallel()
	const other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, test := range []struct {
		when   string
		header []string
		want   string
	}{
		{"none", nil, ""},
		{"of the request", []string{"Traceparent", traceparent}, traceparent},
		{"of the event", []string{"Ce-Traceparent", traceparent}, traceparent},
		{"of both", []string{"Traceparent", traceparent, "Ce-Traceparent", other}, traceparent},
		{"malformed in the request", []string{"Traceparent", "canary", "Ce-Traceparent", traceparent}, traceparent},
		{"malformed in the event", []string{"Ce-Traceparent", "canary"}, ""},
		{"twice in the request", []string{"Traceparent", other, "Traceparent", other, "Ce-Traceparent", traceparent}, traceparent},
		{"of a later version", []string{"Traceparent", "cc" + traceparent[2:] + "-canary"}, traceparent},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			f := newFunction(t)
			is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
				f.Log().With("a", 1).InfoContext(ctx, "received")
				reply := event.New()
				reply.SetType("coffee.served")
				return &reply, nil
			}))
			is.NoErr(f.On("coffee.spilt", func(context.Context, event.Event) (*event.Event, error) { panic("canary") }))
			w := f.order("1", test.header...)
			is.Equal(w.Code, 200)
			is.Equal(w.Header().Get("Ce-Traceparent"), test.want) // the reply goes on in the same trace
			is.Equal(w.Header().Get("Traceparent"), test.want)
			f.ask("POST", "/", "", event1(append(test.header, "Ce-Type", "coffee.spilt")...)...)
			logged := 0
			for _, line := range f.logs.lines(t) {
				if line["msg"] == "cold start" {
					continue // of the process
				}
				logged++
				if test.want == "" {
					is.Equal(line["trace_id"], nil)
				} else {
					is.Equal(line["trace_id"], traceID)
				}
				is.True(line["request_id"] != nil)
			}
			is.Equal(logged, 4)
		})
	}
}

func TestTraceOfAStructuredEvent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	w := newFunction(t).ask("POST", "/", `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","traceparent":"`+traceparent+`"}`,
		"Content-Type", "application/cloudevents+json")
	is.Equal(w.Header().Get("Ce-Traceparent"), traceparent)
}

func TestTraceOfADispatchedEvent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.NoErr(f.On("com.slack.command", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		f.Log().InfoContext(ctx, "received")
		return nil, nil
	}))
	e := command()
	e.SetExtension("traceparent", traceparent)
	f.Dispatch(t.Context(), e)
	line := f.logs.lines(t)[0]
	is.Equal(line["trace_id"], traceID)
	is.True(line["request_id"] != nil) // one of its own
}

func TestColdStartIsOneLine(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.Started = time.Now().Add(-time.Hour) })
	f.Reached(handler.Listening)
	f.Reached(handler.Ready)
	f.ask("POST", "/", "{", "Content-Type", "application/json") // is not accepted
	is.Equal(f.series(`coffeebuddy_start_seconds{until="first_event"}`), "0")
	f.logs.reset()
	for range 2 {
		f.ask("POST", "/", "{}", "Content-Type", "application/json")
	}
	var found []map[string]any
	for _, line := range f.logs.lines(t) {
		if line["msg"] == "cold start" {
			found = append(found, line)
		}
	}
	is.Equal(len(found), 1)
	listening, ready, event := found[0]["listening_seconds"].(float64), found[0]["ready_seconds"].(float64), found[0]["first_event_seconds"].(float64)
	is.True(3600 <= listening && listening <= ready && ready <= event && event < 3700)
}
