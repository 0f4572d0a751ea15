package handler_test

import (
	"context"
	"errors"
	"net/http/httptest"
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

// order sends the event of an id to a receiver of coffee.ordered.
func (f function) order(id string, more ...string) *httptest.ResponseRecorder {
	return f.ask("POST", "/", "1", event1(append([]string{"Ce-Type", "coffee.ordered", "Ce-Id", id}, more...)...)...)
}

func TestDuplicateGetsTheSameAnswer(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newFunction(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	first, second := f.order("1"), f.order("1")
	is.Equal(first.Code, 200)
	is.Equal(second.Code, 200)
	is.Equal(second.Body.String(), "1") // no second effect
	is.Equal(c.effects.Load(), int64(1))
	is.Equal(first.Header().Get("Idempotent-Replayed"), "")
	is.Equal(second.Header().Get("Idempotent-Replayed"), "true")
	second.Header().Del("Idempotent-Replayed")
	first.Header().Del("X-Request-Id") // of the request
	second.Header().Del("X-Request-Id")
	is.Equal(second.Header(), first.Header()) // the reply's id and time too
	is.Equal(f.series(`coffeebuddy_events_total{outcome="accepted"}`), "1")
	is.Equal(f.series(`coffeebuddy_events_total{outcome="duplicate"}`), "1")

	is.Equal(f.order("2").Body.String(), "2")
	is.Equal(f.order("1", "Ce-Source", "/other").Body.String(), "3")
	is.Equal(f.order("1").Body.String(), "1") // the same after all
}

// TestKeptReplyIsACopy: a receiver may use its buffer again.
func TestKeptReplyIsACopy(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, data := newFunction(t), []byte("first")
	is.NoErr(f.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) {
		reply := event.New()
		reply.SetType("coffee.served")
		return &reply, reply.SetData("text/plain", data)
	}, events.Deduplicate(time.Hour)))
	f.order("1")
	copy(data, "later")
	is.Equal(f.order("1").Body.String(), "first")
}

func TestDuplicateOfAnEventWithoutReply(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.NoErr(f.On("coffee.ordered", answering(nil, nil), events.Deduplicate(time.Hour)))
	is.Equal(f.order("1").Code, 204)
	again := f.order("1")
	is.Equal(again.Code, 204)
	is.Equal(again.Header().Get("Idempotent-Replayed"), "true")
	is.Equal(again.Header().Get("Ce-Specversion"), "") // nothing that looks like an event
}

// TestNamesThatMustNotBeMixedUp: whatever joins a source and an id.
func TestNamesThatMustNotBeMixedUp(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newFunction(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	is.NoErr(f.On("coffee.ordered1", c.receive, events.Deduplicate(time.Hour)))
	effects := 0
	for _, names := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"a/", "b"}, {"a", "/b"}, {"a:", "1:b"}, {"a", ":1:b"}} {
		effects++
		is.Equal(f.order(names[1], "Ce-Source", names[0]).Body.String(), strconv.Itoa(effects))
	}
	// The same event for another receiver is no duplicate: its effect has not come yet.
	is.Equal(f.ask("POST", "/", "1", event1("Ce-Type", "coffee.ordered1", "Ce-Source", "a", "Ce-Id", "bc")...).Body.String(), strconv.Itoa(effects+1))
}

func TestReceiversThatDoNotAskDoNotDeduplicate(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newFunction(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive))
	f.order("1")
	is.Equal(f.order("1").Body.String(), "2")
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
			f := newFunction(t)
			var attempts atomic.Int64
			is.NoErr(f.On("coffee.ordered", func(ctx context.Context, e event.Event) (*event.Event, error) {
				if attempts.Add(1) == 1 {
					return fail(ctx, e)
				}
				return nil, nil
			}, events.Deduplicate(time.Hour)))
			is.True(f.order("1").Code >= 400)
			is.Equal(f.order("1").Code, 204)
			is.Equal(f.order("1").Header().Get("Idempotent-Replayed"), "true")
			is.Equal(attempts.Load(), int64(2))
		})
	}
}

func TestDuplicateOfARunningEventIsAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		var effects atomic.Int64
		is.NoErr(f.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(time.Minute) // past its deadline
			effects.Add(1)
			return nil, nil
		}, events.Deduplicate(time.Hour)))
		is.Equal(f.order("1").Code, 503) // the deadline of ten seconds
		again := f.order("1")
		is.Equal(again.Code, 409) // it still runs, and keeps its claim
		is.Equal(again.Body.String(), `{"error":"duplicate"}`+"\n")
		is.Equal(again.Header().Get("Idempotent-Replayed"), "")
		is.Equal(f.series("coffeebuddy_events_in_flight"), "1")
		time.Sleep(time.Minute)
		is.Equal(f.order("1").Code, 204) // it had its effect after all
		is.Equal(effects.Load(), int64(1))
	})
}

func TestTimedOutEventMayRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		var attempts atomic.Int64
		is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			if attempts.Add(1) == 1 {
				<-ctx.Done()
			}
			return nil, ctx.Err()
		}, events.Deduplicate(time.Hour)))
		is.Equal(f.order("1").Code, 503)
		synctest.Wait()
		is.Equal(f.order("1").Code, 204)
		is.Equal(attempts.Load(), int64(2))
	})
}

func TestAnswersAreForgottenWithAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f, c := newFunction(t), new(counter)
		is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
		f.order("1")
		time.Sleep(time.Hour - time.Second)
		is.Equal(f.order("1").Body.String(), "1")
		time.Sleep(time.Second) // its age counts from the first answer
		is.Equal(f.order("1").Body.String(), "2")
	})
}

func TestOldestAnswersGoFirst(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
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
	ended := make(chan int)
	go func() { ended <- f.order("running").Code }()
	<-entered
	const kept = 8 // of 1 MB each in 8 MiB
	for i := range kept + 1 {
		is.Equal(f.order(strconv.Itoa(i)).Code, 200)
	}
	before := effects.Load()
	for i := kept; i > 0; i-- {
		is.Equal(f.order(strconv.Itoa(i)).Header().Get("Idempotent-Replayed"), "true")
	}
	is.Equal(effects.Load(), before)
	is.Equal(f.order("0").Header().Get("Idempotent-Replayed"), "") // the oldest
	is.Equal(f.order("running").Code, 409)                         // older, but it still runs
	close(release)
	is.Equal(<-ended, 200)
}

func TestReplyThatIsTooLargeIsNotKept(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
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
		is.Equal(large.Body.Len(), 1<<20) // and is sent all the same
		is.Equal(large.Header().Get("Idempotent-Replayed"), "")
	}
	is.Equal(f.order("small").Header().Get("Idempotent-Replayed"), "true") // it pushed nothing out
}

func TestNumberOfAnswersIsBounded(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newFunction(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	const bound = 10_000
	for i := range bound + 1 {
		if code := f.order(strconv.Itoa(i)).Code; code != 200 {
			t.Fatal(code)
		}
		f.logs.reset()
	}
	is.Equal(f.order("1").Header().Get("Idempotent-Replayed"), "true")
	is.Equal(f.order("0").Header().Get("Idempotent-Replayed"), "")
}

func TestDeduplicationNeedsAnAge(t *testing.T) {
	t.Parallel()
	for _, age := range []time.Duration{0, -1} {
		is := is.New(t)
		err := newFunction(t).On("coffee.ordered", answering(nil, nil), events.Deduplicate(age))
		is.True(err != nil)
		is.Equal(err.Error(), "register a receiver for coffee.ordered: deduplicate: the age is not positive")
	}
}
