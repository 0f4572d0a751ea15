package events_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// tasks returns how many tasks have ended in each way.
func (f engine) tasks() string {
	var counts []string
	for _, outcome := range []string{"done", "failed", "cut_off"} {
		counts = append(counts, f.series(`coffeebuddy_background_tasks_total{outcome="`+outcome+`"}`))
	}
	return strings.Join(counts, " ")
}

func TestTaskGoesOnAfterTheReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t)
		ended := make(chan error, 1)
		is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			f.Go(ctx, "announce", func(ctx context.Context) error {
				time.Sleep(30 * time.Second) // the receiver's deadline is ten
				deadline, ok := ctx.Deadline()
				is.True(ok)
				is.Equal(time.Until(deadline), 30*time.Second) // of a minute
				f.Log().InfoContext(ctx, "announced")
				ended <- ctx.Err()
				return nil
			})
			return nil, nil
		}))
		began := time.Now()
		request := events.WithCorrelation(t.Context(), &events.Correlation{RequestID: "r-1", Traceparent: traceparent})
		is.Equal(f.Dispatch(request, ordered()).Outcome, events.Accepted)
		is.Equal(time.Since(began), time.Duration(0)) // it waited for nothing
		is.Equal(f.tasks(), "0 0 0")
		is.NoErr(f.Wait(t.Context())) // shutdown does
		is.Equal(time.Since(began), 30*time.Second)
		is.NoErr(<-ended)
		is.Equal(f.tasks(), "1 0 0")
		is.True(strings.Contains(f.logs.String(), `"msg":"announced","request_id":"r-1","trace_id":"`+traceID+`"`))
	})
}

func TestTaskThatFails(t *testing.T) {
	t.Parallel()
	for when, task := range map[string]func(context.Context) error{
		"an error": func(context.Context) error { return errors.New("canary") },
		"a panic":  func(context.Context) error { panic("canary") },
		"nil":      nil,
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			f := newEngine(t)
			f.Go(t.Context(), "announce", task)
			is.NoErr(f.Wait(t.Context()))
			is.Equal(f.tasks(), "0 1 0")
			is.True(strings.Contains(f.logs.String(), `"msg":"a task failed","task":"announce"`))
			is.True(!strings.Contains(f.logs.String(), "canary"))
			is.Equal(strings.Contains(f.logs.String(), `"stack"`), when != "an error")
			is.Equal(f.series("coffeebuddy_http_panics_total") == "1", when != "an error")
		})
	}
}

func TestTaskHasADeadlineOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t)
		began := time.Now()
		f.Go(t.Context(), "announce", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, events.Within(time.Hour))
		ended, cancel := context.WithCancel(t.Context())
		cancel() // is not the task's end
		f.Go(ended, "tally", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, events.Within(time.Second))
		is.NoErr(f.Wait(t.Context()))
		is.Equal(time.Since(began), time.Hour)
		is.Equal(f.tasks(), "0 2 0")
	})
}

func TestShutdownNamesTheTasksThatItCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t)
		cancelled := make(chan error, 2)
		for _, name := range []string{"tally", "announce"} {
			f.Go(t.Context(), name, func(ctx context.Context) error {
				<-ctx.Done()
				cancelled <- ctx.Err()
				return nil
			})
		}
		f.Go(t.Context(), "quick", func(ctx context.Context) error {
			time.Sleep(time.Second)
			f.Go(ctx, "next", func(context.Context) error { time.Sleep(time.Second); return nil })
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err := f.Wait(ctx)
		is.True(errors.Is(err, context.DeadlineExceeded))
		is.Equal(err.Error(), "2 tasks were cut off (announce, tally): context deadline exceeded")
		is.True(strings.Contains(f.logs.String(), `"a task was cut off","task":"tally"`))
		is.Equal(<-cancelled, context.Canceled)
		is.Equal(<-cancelled, context.Canceled)
		synctest.Wait()
		is.Equal(f.tasks(), "2 0 2") // what ended too late is counted once
		is.NoErr(f.Wait(t.Context()))
	})
}

func TestShutdownCountsEventsAndTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t)
		is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			f.Go(ctx, "announce", func(context.Context) error { time.Sleep(time.Hour); return nil })
			time.Sleep(time.Hour)
			return nil, nil
		}))
		go f.order("1")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		is.Equal(f.Wait(ctx).Error(), "1 events were cut off, 1 tasks were cut off (announce): context deadline exceeded")
		is.NoErr(f.Wait(t.Context())) // it may be asked again; both end, too late
	})
}

// TestShutdownWaitsForWhatAnEventStarts while it waits for the event.
func TestShutdownWaitsForWhatAnEventStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t)
		is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			time.Sleep(time.Second)
			f.Go(ctx, "announce", func(context.Context) error { time.Sleep(time.Second); return nil })
			return nil, nil
		}))
		go f.order("1")
		synctest.Wait()
		began := time.Now()
		is.NoErr(f.Wait(t.Context()))
		is.Equal(time.Since(began), 2*time.Second)
		is.Equal(f.tasks(), "1 0 0")
	})
}
