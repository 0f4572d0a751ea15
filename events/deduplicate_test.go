package events_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// A counter is a receiver that counts its effects, and replies with their number.
type counter struct{ effects atomic.Int64 }

func (c *counter) receive(context.Context, event.Event) (*event.Event, error) {
	reply := event.New()
	reply.SetType("coffee.counted")
	return &reply, reply.SetData("text/plain", strconv.FormatInt(c.effects.Add(1), 10))
}

// TestKeptReplyIsACopy: a receiver may use its buffer again.
func TestKeptReplyIsACopy(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, data := newEngine(t), []byte("first")
	is.NoErr(f.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) {
		reply := event.New()
		reply.SetType("coffee.served")
		return &reply, reply.SetData("text/plain", data)
	}, events.Deduplicate(time.Hour)))
	f.order("1")
	copy(data, "later")
	is.Equal(f.order("1").data(), "first")
}

// TestNamesThatMustNotBeMixedUp: whatever joins a source and an id.
func TestNamesThatMustNotBeMixedUp(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newEngine(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	is.NoErr(f.On("coffee.ordered1", c.receive, events.Deduplicate(time.Hour)))
	effects := 0
	for _, names := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"a/", "b"}, {"a", "/b"}, {"a:", "1:b"}, {"a", ":1:b"}} {
		effects++
		is.Equal(f.send("coffee.ordered", names[0], names[1]).data(), strconv.Itoa(effects))
	}
	// The same event for another receiver is no duplicate: its effect has not come yet.
	is.Equal(f.send("coffee.ordered1", "a", "bc").data(), strconv.Itoa(effects+1))
}

func TestReceiversThatDoNotAskDoNotDeduplicate(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newEngine(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive))
	f.order("1")
	is.Equal(f.order("1").data(), "2")
}

// TestWhatFailedMayRunAgain: a refusal too.
func TestWhatFailedMayRunAgain(t *testing.T) {
	t.Parallel()
	canary := errors.New("canary")
	bad := event.New()
	bad.SetType(" ")
	for when, fail := range map[string]events.Receiver{
		"an error":         answering(nil, canary),
		"a refusal":        answering(nil, events.Permanent(canary)),
		"come back":        answering(nil, events.RetryAfter(time.Second, canary)),
		"an invalid reply": answering(&bad, nil),
		"a panic":          func(context.Context, event.Event) (*event.Event, error) { panic("canary") },
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			f := newEngine(t)
			var attempts atomic.Int64
			is.NoErr(f.On("coffee.ordered", func(ctx context.Context, e event.Event) (*event.Event, error) {
				if attempts.Add(1) == 1 {
					return fail(ctx, e)
				}
				return nil, nil
			}, events.Deduplicate(time.Hour)))
			is.True(f.order("1").Outcome != events.Accepted)
			is.Equal(f.order("1").Outcome, events.Accepted)
			is.Equal(f.order("1").replayed(), true)
			is.Equal(attempts.Load(), int64(2))
		})
	}
}

func TestTimedOutEventMayRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newEngine(t)
		var attempts atomic.Int64
		is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			if attempts.Add(1) == 1 {
				<-ctx.Done()
			}
			return nil, ctx.Err()
		}, events.Deduplicate(time.Hour)))
		is.Equal(f.order("1").Outcome, events.Timeout)
		synctest.Wait()
		is.Equal(f.order("1").Outcome, events.Accepted)
		is.Equal(attempts.Load(), int64(2))
	})
}

func TestAnswersAreForgottenWithAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f, c := newEngine(t), new(counter)
		is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
		f.order("1")
		time.Sleep(time.Hour - time.Second)
		is.Equal(f.order("1").data(), "1")
		time.Sleep(time.Second) // its age counts from the first answer
		is.Equal(f.order("1").data(), "2")
	})
}

func TestOldestAnswersGoFirst(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newEngine(t)
	var effects atomic.Int64
	release, entered := make(chan struct{}), make(chan struct{})
	is.NoErr(f.On("coffee.ordered", func(_ context.Context, e event.Event) (*event.Event, error) {
		effects.Add(1)
		if e.ID() == "running" {
			close(entered)
			<-release
		}
		reply := event.New()
		reply.SetType("coffee.served")
		return &reply, reply.SetData("text/plain", strings.Repeat("x", 1_000_000))
	}, events.Deduplicate(time.Hour)))
	ended := make(chan answer)
	go func() { ended <- f.order("running") }()
	<-entered
	const kept = 8 // of 1 MB each in 8 MiB
	for i := range kept + 1 {
		is.True(f.order(strconv.Itoa(i)).Reply != nil)
	}
	before := effects.Load()
	for i := kept; i > 0; i-- {
		is.Equal(f.order(strconv.Itoa(i)).replayed(), true)
	}
	is.Equal(effects.Load(), before)
	is.Equal(f.order("0").replayed(), false)                                        // the oldest
	is.Equal(f.order("running").Verdict, events.Verdict{Outcome: events.Duplicate}) // older, but it still runs
	close(release)
	is.Equal((<-ended).Outcome, events.Accepted)
}

func TestReplyThatIsTooLargeIsNotKept(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newEngine(t)
	is.NoErr(f.On("coffee.ordered", func(_ context.Context, e event.Event) (*event.Event, error) {
		reply := event.New()
		reply.SetType("coffee.served")
		size := 100
		if e.ID() == "large" {
			size = 1 << 20
		}
		return &reply, reply.SetData("text/plain", strings.Repeat("x", size))
	}, events.Deduplicate(time.Hour)))
	f.order("small")
	for range 2 {
		large := f.order("large")
		is.Equal(len(large.data()), 1<<20) // and is sent all the same
		is.Equal(large.replayed(), false)
	}
	is.Equal(f.order("small").replayed(), true) // it pushed nothing out
}

func TestNumberOfAnswersIsBounded(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newEngine(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	const bound = 10_000
	for i := range bound + 1 {
		if outcome := f.order(strconv.Itoa(i)).Outcome; outcome != events.Accepted {
			t.Fatal(outcome)
		}
	}
	is.Equal(f.order("1").replayed(), true)
	is.Equal(f.order("0").replayed(), false)
}

func TestDeduplicationNeedsAnAge(t *testing.T) {
	t.Parallel()
	for _, age := range []time.Duration{0, -1} {
		is := is.New(t)
		err := newEngine(t).On("coffee.ordered", answering(nil, nil), events.Deduplicate(age))
		is.True(err != nil)
		is.Equal(err.Error(), "register a receiver for coffee.ordered: deduplicate: the age is not positive")
	}
}

func TestDispatchedReplyIsACopy(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newEngine(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	f.order("1")
	copy(f.order("1").Reply.DataEncoded, "X") // of what is remembered
	is.Equal(f.order("1").data(), "1")
}
