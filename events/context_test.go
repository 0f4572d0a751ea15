package events_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// TestContextOfAReceiver is a whole context, however it is asked.
func TestContextOfAReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t)
		leaked := make(chan context.Context, 3)
		is.NoErr(f.On("coffee.ordered", func(ctx context.Context, e event.Event) (*event.Event, error) {
			leaked <- ctx
			is.NoErr(ctx.Err())
			is.NoErr(context.Cause(ctx))
			before := runtime.NumGoroutine()
			below, cancel := context.WithCancel(ctx)
			defer cancel()
			is.Equal(runtime.NumGoroutine(), before) // nothing watches it
			if e.ID() == "slow" {
				<-below.Done()
				is.Equal(below.Err(), context.DeadlineExceeded)
				is.Equal(context.Cause(below), context.DeadlineExceeded)
				is.Equal(ctx.Err(), context.DeadlineExceeded)
				<-ctx.Done()
			}
			return nil, nil
		}))
		is.NoErr(f.On("coffee.paid", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			leaked <- ctx
			time.Sleep(time.Minute)
			is.Equal(ctx.Err(), context.DeadlineExceeded) // its Done was never asked for
			return nil, nil
		}))
		f.order("1")
		f.order("slow")
		f.send("coffee.paid", "/counter", "1")
		is.NoErr(f.Wait(t.Context()))
		for _, want := range []error{context.Canceled, context.DeadlineExceeded, context.DeadlineExceeded} {
			ctx := <-leaked // which a goroutine of the receiver's own may still have
			<-ctx.Done()
			is.Equal(ctx.Err(), want)
		}
	})
}
