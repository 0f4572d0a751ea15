package events_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
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
	f := newEngine(t, func(c *events.Config) { c.InFlight = 1 })
	is.NoErr(f.On("com.slack.command", answering(nil, nil)))
	slot := f.Enter()
	is.Equal(f.series("coffeebuddy_events_in_flight"), "1")
	is.True(f.Enter() == nil)
	is.Equal(f.order("1").Outcome, events.Overloaded)
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

// TestWhatASlotHolds is given back when the receiver returns, not when its sender is answered.
func TestWhatASlotHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t)
		is.NoErr(f.On("com.slack.command", func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(time.Minute)
			return nil, nil
		}))
		began, freed := time.Now(), atomic.Int64{}
		slot := f.Enter()
		slot.After(func() { freed.Store(int64(time.Since(began))) })
		is.Equal((<-slot.Start(t.Context(), command())).Outcome, events.Timeout)
		is.Equal(freed.Load(), int64(0))
		time.Sleep(time.Minute)
		is.Equal(freed.Load(), int64(time.Minute))
		for _, give := range []func(*events.Slot){
			func(s *events.Slot) { s.Leave() },
			func(s *events.Slot) { <-s.Start(t.Context(), event.New()) }, // which is no event
		} {
			slot, freed := f.Enter(), 0
			slot.After(func() { freed++ })
			give(slot)
			slot.Leave()
			is.Equal(freed, 1)
		}
	})
}

// losing loses each claim after a second, to another owner.
type losing struct{ events.Ledger }

func (l losing) Claim(ctx context.Context, r events.Request) (events.Claim, error) {
	claim, err := l.Ledger.Claim(ctx, r)
	if err == nil {
		time.AfterFunc(time.Second, r.Lost)
	}
	return claim, err
}

// TestALostClaim ends the receiver, whose sender is still there and is to ask again.
func TestALostClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t, func(c *events.Config) { c.Ledger = losing{events.NewMemory()} })
		is.NoErr(f.On("com.slack.command", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, events.Deduplicate(time.Hour)))
		is.Equal(f.Dispatch(t.Context(), command()).Outcome, events.Retry)
	})
}

// TestDispatchUntilTheContextsDeadline, which may be longer than that of other events.
func TestDispatchUntilTheContextsDeadline(t *testing.T) {
	for timeout, want := range map[time.Duration]events.Outcome{time.Minute: "accepted", time.Second: "timeout"} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			f := newEngine(t) // whose events have 10 s
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
			f, runs := newEngine(t), 0
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
			f := newEngine(t)
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
	f := newEngine(t)
	is.Equal(f.Dispatch(t.Context(), event.Event{}), events.Verdict{Outcome: "malformed", Attribute: "specversion"})
	is.Equal(f.Dispatch(t.Context(), event.New()), events.Verdict{Outcome: "malformed", Attribute: "type"})
	is.Equal(f.Dispatch(t.Context(), command()), events.Verdict{Outcome: "unknown_type"})
	is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
}

func TestDispatchTakesASlotAndDeduplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t, func(c *events.Config) { c.InFlight = 1 })
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
		is.Equal(f.order("1").Outcome, events.Overloaded)
		is.Equal(<-first, events.Verdict{Outcome: "accepted"})
		is.Equal(f.Dispatch(t.Context(), e), events.Verdict{Outcome: "duplicate", First: "accepted"})
		is.NoErr(f.Wait(t.Context()))
		is.Equal(f.Dispatch(t.Context(), e).Outcome, events.Overloaded) // nothing more once all has been waited for
	})
}

func TestTraceOfADispatchedEvent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newEngine(t)
	is.NoErr(f.On("com.slack.command", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		f.Log().InfoContext(ctx, "received")
		return nil, nil
	}))
	e := command()
	e.SetExtension("traceparent", traceparent)
	f.Dispatch(t.Context(), e)
	line := f.logs.Lines(t)[0]
	is.Equal(line["trace_id"], traceID)
	is.True(line["request_id"] != nil) // one of its own
}

func ordered() event.Event {
	e := event.New()
	e.SetType("coffee.ordered")
	return e
}
