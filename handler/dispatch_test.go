package handler_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

func TestSlotIsAmongTheEventsInFlight(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.EventsInFlight = 1 })
	is.NoErr(f.On("com.slack.command", answering(nil, nil)))
	slot := f.Enter()
	is.Equal(f.series("coffeebuddy_events_in_flight"), "1")
	is.True(f.Enter() == nil)
	is.Equal(f.order("1").Code, 503)
	is.Equal(f.series(`coffeebuddy_events_total{outcome="overloaded"}`), "2")
	is.Equal(<-slot.Start(t.Context(), command()), events.Verdict{Outcome: "accepted"}) // in the one slot
	slot.Leave()                                                                        // which is no longer held
	is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
	for range 2 {
		slot = f.Enter()
		slot.Leave()
		slot.Leave()
		is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
	}
	for _, e := range []event.Event{event.New(), {}} { // which is no event: the slot is given back
		is.Equal((<-f.Enter().Start(t.Context(), e)).Outcome, events.Malformed)
	}
	is.Equal((<-f.Enter().Start(t.Context(), command(), events.Deduplicate(0))).Outcome, events.Failed)
	is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
}

// TestDispatchUntilTheContextsDeadline, which may be longer than that of other events.
func TestDispatchUntilTheContextsDeadline(t *testing.T) {
	for timeout, want := range map[time.Duration]events.Outcome{time.Minute: "accepted", time.Second: "timeout"} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			f := newFunction(t) // whose events have 10 s
			is.NoErr(f.On("com.slack.command", func(ctx context.Context, _ event.Event) (*event.Event, error) {
				select {
				case <-time.After(30 * time.Second):
					return nil, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}))
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			is.Equal(f.Dispatch(ctx, command()).Outcome, want)
		})
	}
}

func TestDispatchOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when   string
		option events.Option
		err    error
		runs   int
	}{
		{"deduplicated and accepted", events.Deduplicate(time.Hour), nil, 1},
		{"deduplicated and failed", events.Deduplicate(time.Hour), errors.New("failed"), 2},
		{"once and accepted", events.Once(time.Hour), nil, 1},
		{"once and failed", events.Once(time.Hour), errors.New("failed"), 1},
	} {
		t.Run(test.when, func(t *testing.T) {
			is := is.New(t)
			f, runs := newFunction(t), 0
			is.NoErr(f.On("com.slack.command", func(context.Context, event.Event) (*event.Event, error) {
				runs++
				return nil, test.err
			}))
			e := command()
			e.SetID("1")
			first := f.Dispatch(t.Context(), e, test.option)
			second := f.Dispatch(t.Context(), e, test.option)
			is.Equal(runs, test.runs)
			if test.runs == 1 {
				is.Equal(second, events.Verdict{Outcome: events.Duplicate, First: first.Outcome})
			} else {
				is.Equal(second, first)
			}
			f.Dispatch(t.Context(), e)
			is.Equal(runs, test.runs+1) // the option was for those events
		})
	}
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
	lines := f.logs.lines(t)
	line := lines[len(lines)-1]
	is.Equal(line["route"], "/slack/commands")
	is.Equal(line["event_type"], "com.slack.command")
	is.Equal(line["event_id"], "1") // the first
}
