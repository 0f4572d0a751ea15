package events_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// A sink keeps what is sent to it.
type sink struct {
	sent []event.Event
	err  error
}

func (s *sink) Send(_ context.Context, e event.Event) error {
	s.sent = append(s.sent, e)
	return s.err
}

func TestWithoutASinkNothingIsSent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	e := newEngine(t)
	is.True(!e.HasSink())
	is.True(errors.Is(e.Send(t.Context(), ordered()), events.ErrNoSink))
}

// TestWhatIsSentIsWhole: with an id, a source, a time and the trace of what it is sent for.
func TestWhatIsSentIsWhole(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	to := new(sink)
	e := newEngine(t, func(c *events.Config) { c.App, c.Sender = "kitchen", to })
	is.True(e.HasSink())
	is.NoErr(e.On("coffee.paid", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		return nil, e.Send(ctx, ordered())
	}))
	request := events.WithCorrelation(t.Context(), &events.Correlation{RequestID: "r-1", Traceparent: traceparent})
	paid := ordered()
	paid.SetType("coffee.paid")
	is.Equal(e.Dispatch(request, paid).Outcome, events.Accepted)
	is.Equal(len(to.sent), 1)
	sent := to.sent[0]
	is.NoErr(sent.Validate())
	is.True(sent.ID() != "")
	is.True(!sent.Time().IsZero())
	is.Equal(sent.Source(), "//coffeebuddy/kitchen")
	is.Equal(sent.Extensions()["traceparent"], traceparent)

	given := ordered()
	given.SetID("1")
	given.SetSource("/counter")
	is.NoErr(e.Send(t.Context(), given))
	is.Equal(to.sent[1].ID()+to.sent[1].Source(), "1/counter")
	is.Equal(given.Extensions(), nil) // it is the caller's, and is left alone
	is.True(given.Time().IsZero())
}

// TestWhatNobodyWouldReceiveIsNotSent, and the error says which attribute it is.
func TestWhatNobodyWouldReceiveIsNotSent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	to := new(sink)
	e := newEngine(t, func(c *events.Config) { c.Sender = to })
	wrong := ordered()
	wrong.SetSubject("a\r\nb")
	err := e.Send(t.Context(), wrong)
	is.True(err != nil)
	is.Equal(err.Error(), "send an event: malformed attribute subject")
	is.True(e.Send(t.Context(), event.New()) != nil) // without a type
	is.Equal(len(to.sent), 0)
}

// TestSendersErrorIsAFailure of the event that it is sent for, which then comes again.
func TestSendersErrorIsAFailure(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	to := &sink{err: errors.New("canary")}
	e := newEngine(t, func(c *events.Config) { c.Sender = to })
	is.NoErr(e.On("coffee.ordered", func(ctx context.Context, in event.Event) (*event.Event, error) {
		return nil, e.Send(ctx, in)
	}))
	is.Equal(e.order("1").Outcome, events.Failed)
	is.True(!strings.Contains(e.logs.String(), "canary"))
}
