package single_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/servertest"
	"coffeebuddy/internal/single"

	"github.com/matryer/is"
)

func TestOneRunAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		logs := new(servertest.Logs)
		w := single.Work{Name: "work", Timeout: time.Minute, Log: logs.Logger()}
		is.True(w.Running() == nil)
		runs, failed := 0, errors.New("failed")
		var last error
		run := func(ctx context.Context) <-chan struct{} {
			return w.Start(ctx, func(context.Context) error {
				runs++
				time.Sleep(time.Second)
				return failed
			}, func(err error) { last = err })
		}
		ctx, leave := context.WithCancel(t.Context())
		first := run(ctx)
		leave() // whoever started it
		for range 10 {
			is.Equal(run(t.Context()), first)
			is.Equal(w.Running(), first)
		}
		began := time.Now()
		w.Wait(ctx) // which has ended
		is.Equal(time.Since(began), time.Duration(0))
		w.Wait(t.Context())
		is.Equal(time.Since(began), time.Second)
		is.Equal(w.Running(), nil)
		is.Equal(runs, 1)
		is.Equal(last, failed)
		is.True(w.Running() == nil)
		<-run(t.Context())
		is.Equal(runs, 2)
		is.Equal(logs.String(), "")
	})
}

func TestRunThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		w := single.Work{Name: "work", Timeout: time.Minute, Log: new(servertest.Logs).Logger()}
		began := time.Now()
		var last error
		<-w.Start(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, func(err error) { last = err })
		is.Equal(time.Since(began), time.Minute)
		is.Equal(last, context.DeadlineExceeded)
	})
}

// TestPanics are errors, logged with their type and stack, and counted; their own text may
// hold anything, unless it is the runtime's.
func TestPanics(t *testing.T) {
	t.Parallel()
	for what, panics := range map[string]func(){
		`"panic":"string"`: func() { panic("canary") },
		`"panic":"runtime error: index out of range [1] with length 0"`: func() {
			var none []int
			one := 1
			_ = none[one]
		},
		`"panic":"*errors.errorString"`: func() { panic(errors.New("canary")) },
	} {
		is := is.New(t)
		logs := new(servertest.Logs)
		var count atomic.Int64
		w := single.Work{Name: "work", Timeout: time.Minute, Log: logs.Logger(), OnPanic: func() { count.Add(1) }}
		var last error
		<-w.Start(t.Context(), func(context.Context) error { panics(); return nil }, func(err error) { last = err })
		is.Equal(fault.ReasonOf(last), fault.BadResponse)
		is.Equal(last.Error(), "bad_response: work panicked")
		is.True(strings.Contains(logs.String(), what))
		is.True(strings.Contains(logs.String(), "single_test.go")) // the stack
		is.True(!strings.Contains(logs.String(), "canary"))
		is.Equal(count.Load(), int64(1))
		is.True(w.Running() == nil)
	}
}
