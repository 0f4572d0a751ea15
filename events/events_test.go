package events_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"testing"

	"coffeebuddy/events"
	"coffeebuddy/internal/servertest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// An engine is the one under test, with what it writes.
type engine struct {
	*events.Engine

	registry *prometheus.Registry
	logs     *servertest.Logs
}

func newEngine(t testing.TB, change ...func(*events.Config)) engine {
	t.Helper()
	e := engine{registry: prometheus.NewRegistry(), logs: new(servertest.Logs)}
	config := events.Config{Registry: e.registry, Log: slog.New(slog.NewJSONHandler(e.logs, nil))}
	for _, c := range change {
		c(&config)
	}
	var err error
	if e.Engine, err = events.New(config); err != nil {
		t.Fatal(err)
	}
	return e
}

// order sends the event of an id to a receiver of coffee.ordered.
func (e engine) order(id string) answer { return e.send("coffee.ordered", "/counter", id) }

func (e engine) send(eventType, source, id string) answer {
	in := event.New()
	in.SetType(eventType)
	in.SetSource(source)
	in.SetID(id)
	return answer{e.Dispatch(context.Background(), in)}
}

// An answer is a verdict with what tests ask of it.
type answer struct{ events.Verdict }

func (a answer) data() string { return string(a.Reply.Data()) }

// replayed reports whether the receiver did not run again.
func (a answer) replayed() bool { return a.Outcome == events.Duplicate && a.First != "" }

func answering(reply *event.Event, err error) events.Receiver {
	return func(context.Context, event.Event) (*event.Event, error) { return reply, err }
}

// series returns the value of a series as the text format names it.
func (e engine) series(name string) string {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (.*)$`).FindStringSubmatch(w.Body.String())
	if found == nil {
		return "absent"
	}
	return found[1]
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	for when, test := range map[string]struct {
		config events.Config
		err    string
	}{
		"zero":            {events.Config{}, ""},
		"fewer than none": {events.Config{InFlight: -1}, "make the events' engine: InFlight is negative"},
		"before it began": {events.Config{Timeout: -1}, "make the events' engine: Timeout is negative"},
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			e, err := events.New(test.config)
			if test.err != "" {
				is.Equal(err.Error(), test.err)
				return
			}
			is.NoErr(err)
			is.NoErr(e.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
				e.Log().InfoContext(ctx, "received")
				panic("canary")
			}))
			is.Equal(engine{Engine: e}.order("1").Outcome, events.Failed)
			is.NoErr(e.Wait(t.Context()))
		})
	}
}

func TestOneRegistryOneEngine(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	_, err := events.New(events.Config{Registry: newEngine(t).registry})
	is.True(err != nil)
}

func TestSeriesExistFromTheStart(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := newEngine(t)
	for _, outcome := range []events.Outcome{
		events.Accepted, events.Duplicate, events.Malformed, events.UnknownType, events.Rejected, events.Mismatch,
		events.Unauthorized, events.Overloaded, events.Retry, events.Timeout, events.Failed, events.Abandoned,
	} {
		is.Equal(e.series(`coffeebuddy_events_total{outcome="`+string(outcome)+`"}`), "0")
	}
	problems, err := testutil.GatherAndLint(e.registry)
	is.NoErr(err)
	is.Equal(len(problems), 0)
}

func TestWiringMistakesAreErrors(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := newEngine(t)
	is.NoErr(e.On("coffee.ordered", answering(nil, nil)))
	is.True(e.On("coffee.ordered", answering(nil, nil)) != nil) // twice
	for _, eventType := range []string{"", " ", "a\x00"} {      // which no event has
		is.True(e.On(eventType, answering(nil, nil)) != nil)
	}
	is.True(e.On("coffee.drunk", nil) != nil)
}
