package handler_test

import (
	"context"
	"net/http/httptest"
	"strconv"
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
