package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

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
	for _, line := range f.logs.Lines(t) {
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
			for _, line := range f.logs.Lines(t) {
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

func TestColdStartIsOneLine(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.Started = time.Now().Add(-time.Hour) })
	f.Reached(handler.Listening)
	f.Reached(handler.Ready)
	f.ask("POST", "/", "{", "Content-Type", "application/json") // is not accepted
	is.Equal(f.series(`coffeebuddy_start_seconds{until="first_event"}`), "0")
	f.logs.Reset()
	for range 2 {
		f.ask("POST", "/", "{}", "Content-Type", "application/json")
	}
	var found []map[string]any
	for _, line := range f.logs.Lines(t) {
		if line["msg"] == "cold start" {
			found = append(found, line)
		}
	}
	is.Equal(len(found), 1)
	listening, ready, event := found[0]["listening_seconds"].(float64), found[0]["ready_seconds"].(float64), found[0]["first_event_seconds"].(float64)
	is.True(3600 <= listening && listening <= ready && ready <= event && event < 3700)
}

// The first event of a process that was idle waited for nothing.
func TestNoColdStartAfterIdling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t, func(c *config) { c.Started = time.Now() })
		f.Reached(handler.Listening)
		f.Reached(handler.Ready)
		time.Sleep(276 * time.Second)
		f.ask("POST", "/", "{}", "Content-Type", "application/json")
		is.True(strings.HasPrefix(f.series(`coffeebuddy_start_seconds{until="first_event"}`), "276"))
		for _, line := range f.logs.Lines(t) {
			is.True(line["msg"] != "cold start")
		}
	})
}

func TestDispatchedEventIsInTheLineOfItsRequest(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.NoErr(f.On("com.slack.command", answering(nil, nil)))
	is.NoErr(f.Mount("POST /slack/commands", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for _, id := range []string{"1", "2"} {
			e := command()
			e.SetID(id)
			f.Dispatch(r.Context(), e)
		}
	})))
	f.ask("POST", "/slack/commands", "")
	lines := f.logs.Lines(t)
	line := lines[len(lines)-1]
	is.Equal(line["route"], "/slack/commands")
	is.Equal(line["event_type"], "com.slack.command")
	is.Equal(line["event_id"], "1") // the first
}

func command() event.Event {
	e := event.New()
	e.SetType("com.slack.command")
	_ = e.SetData("application/json", []byte(`{"text":"espresso"}`))
	return e
}
