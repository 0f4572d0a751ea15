package observability

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/handler/handlertest"
	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
)

// newHandler returns the function's handler with a readiness, for features and checks that the function itself does not have.
func newHandler(t *testing.T, registry *prometheus.Registry, readiness *checks.Readiness) (*events.Engine, *handler.Handler) {
	t.Helper()
	is := is.New(t)
	is.NoErr(registry.Register(readiness))
	engine, err := events.New(events.Config{Timeout: 3 * time.Second, Registry: registry})
	is.NoErr(err)
	h, err := handler.New(handler.Config{
		App: "coffeebuddy", Environment: "test", Version: "test", Started: time.Now(),
		Ready: func(ctx context.Context) handler.Readiness {
			v := readiness.Verdict(ctx)
			return handler.Readiness{Ready: v.Ready(), Retry: v.Retry(), JSON: v.JSON()}
		},
		Events: engine, Echo: true, Registry: registry,
	})
	is.NoErr(err)
	return engine, h
}

// serve shows a handler to Prometheus.
func serve(t *testing.T, h http.Handler) (address string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// A hanging check is one that ends by itself only, as no check should.
type hanging struct{ until <-chan struct{} }

func (hanging) Name() string { return "vault" }

func (h hanging) Check(context.Context) error {
	<-h.until
	return nil
}

// frozen is a function whose check hangs while probes come.
func frozen(t *testing.T) function {
	t.Helper()
	until := make(chan struct{})
	t.Cleanup(func() { close(until) })
	readiness, err := checks.New(checks.Options{TTL: time.Second, Timeout: 50 * time.Millisecond}, hanging{until})
	is.New(t).NoErr(err)
	_, h := newHandler(t, prometheus.NewRegistry(), readiness)
	return function{address: serve(t, h)}.probed(t)
}

// A broken function has receivers that fail in every way.
type broken struct {
	*handler.Handler

	address string
}

func startBroken(t *testing.T) broken {
	t.Helper()
	is := is.New(t)
	registry := prometheus.NewRegistry()
	readiness, err := checks.New(checks.Options{})
	is.NoErr(err)
	engine, h := newHandler(t, registry, readiness)
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	fails := func(err error) events.Receiver {
		return func(context.Context, event.Event) (*event.Event, error) { return nil, err }
	}
	slow := func(d time.Duration) events.Receiver {
		return func(context.Context, event.Event) (*event.Event, error) {
			<-time.After(d)
			return nil, nil //nolint:nilnil // accepted, without a reply
		}
	}
	wrong := errors.New("as it should in this test")
	for name, receiver := range map[string]events.Receiver{
		"fails": fails(wrong), "refuses": fails(events.Permanent(wrong)), "asks": fails(events.RetryAfter(time.Second, wrong)),
		"slow": slow(2700 * time.Millisecond), // over the objective's 2.5 s, and under the deadline
		"late": slow(3500 * time.Millisecond),
		"stuck": func(context.Context, event.Event) (*event.Event, error) {
			<-stuck
			return nil, wrong
		},
		"panics": func(context.Context, event.Event) (*event.Event, error) { panic("as it should in this test") },
		"forgets": func(ctx context.Context, _ event.Event) (*event.Event, error) {
			engine.Go(ctx, "forget", func(context.Context) error { return wrong })
			return nil, nil //nolint:nilnil // accepted, without a reply
		},
	} {
		is.NoErr(engine.On(name, receiver))
	}
	app, err := slack.New(engine.Events, slack.Config{
		Secret:   func(context.Context, int) (string, int, error) { return slacktest.Secret, 1, nil },
		AckAfter: 100 * time.Millisecond, Timeout: time.Minute, Registry: registry, Mount: h.Mount, Transport: accepting{},
	})
	is.NoErr(err)
	is.NoErr(app.Command("/coffee slow", slow(500*time.Millisecond)))
	is.NoErr(app.Command("/coffee fails", fails(wrong)))
	return broken{h, serve(t, h)}
}

// accepting is a network in which everything is fine.
type accepting struct{}

func (accepting) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// suffer has every receiver fail, often enough for every alert.
func (b broken) suffer(ctx context.Context) {
	var all sync.WaitGroup
	b.send(ctx, &all, 20, "fails")
	b.send(ctx, &all, 20, "refuses")
	b.send(ctx, &all, 40, "asks")
	b.send(ctx, &all, 20, "nobody receives this")
	b.send(ctx, &all, 20, "") // malformed
	b.send(ctx, &all, 1, "panics")
	b.send(ctx, &all, 1, "forgets")
	all.Wait()
	for i := range 10 { // none like another, which would be a duplicate
		for _, command := range []string{"/coffee ping", "/coffee slow", "/coffee fails"} {
			b.ServeHTTP(httptest.NewRecorder(), slacktest.Command(slacktest.Secret, fmt.Sprint(command, " ", i)))
		}
	}
	for range 40 {
		b.ServeHTTP(httptest.NewRecorder(), slacktest.Command("a secret of somebody else's", "/coffee ping"))
	}
	var stuck sync.WaitGroup // which has its response, and does not return before the test's end
	b.send(ctx, &stuck, 1, "stuck")
	b.send(ctx, &all, 15, "late")
	b.send(ctx, &all, 15, "slow")
	b.send(ctx, &all, 20, "slow") // most of which find no place
	all.Wait()
	b.send(ctx, &all, 30, "slow")
	all.Wait()
}

// send sends events of a type at a time.
func (b broken) send(ctx context.Context, all *sync.WaitGroup, n int, eventType string) {
	for range n {
		e := handlertest.Event(eventType, "{}")
		all.Go(func() {
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader("{}"))
			for name, value := range map[string]string{
				"ce-specversion": "1.0", "ce-id": e.ID(), "ce-source": e.Source(), "ce-type": eventType, "Content-Type": "application/json",
			} {
				r.Header.Set(name, value)
			}
			b.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
}

// A wavering Ory is ready every other second.
func wavering(t *testing.T) (url string) {
	t.Helper()
	began := time.Now()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if int(time.Since(began).Seconds())%2 == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"status":"ok"}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
