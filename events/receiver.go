package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coffeebuddy/events/attribute"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Receiver handles one event. Its context ends at its deadline, or when the
// sender has left. It carries the request's id and trace, for [Events.Log] and
// [Events.Go].
//
// What it returns is the verdict: nil and nil accepts the event (204), an event
// is sent as the reply (200). [Permanent] refuses it for good, [RetryAfter] asks
// for it again later, and any other error is a failure (500), which Knative's
// brokers retry as well.
//
// A reply without an id, a source or a time is given one. One that is no valid
// event is a failure.
type Receiver func(context.Context, event.Event) (*event.Event, error)

// A registration is a receiver with what was asked for it.
type registration struct {
	eventType string
	receive   Receiver
	remember  time.Duration // how long its answers are kept for duplicates, 0 for not
	once      bool          // whatever became of it, a duplicate does not run again
}

// An Option is about one receiver, or one event for it; see [Events.On] and
// [Events.Dispatch].
type Option func(*registration) error

// On registers a receiver for a type of event. A type has one receiver. Call it
// before the handler serves.
func (e *Events) On(eventType string, receiver Receiver, options ...Option) error {
	switch {
	case !attribute.IsType(eventType):
		return fmt.Errorf("register a receiver for %q: no event has such a type", eventType)
	case receiver == nil:
		return fmt.Errorf("register a receiver for %s: it is nil", eventType)
	case e.receivers[eventType] != nil:
		return fmt.Errorf("register a receiver for %s: it has one already", eventType)
	}
	r := &registration{eventType: eventType, receive: receiver}
	for _, option := range options {
		if err := option(r); err != nil {
			return fmt.Errorf("register a receiver for %s: %w", eventType, err)
		}
	}
	e.receivers[eventType] = r
	return nil
}

// Deduplicate makes a receiver handle each event once, as far as this process
// remembers: the same source and id again, within age after the answer, gets that
// answer without the receiver, with the header Idempotent-Replayed: true. While the
// receiver still runs it gets 409, which Knative's brokers retry.
//
// Only an accepted event is remembered, with its reply. One that was refused, failed
// or timed out has had no effect that counts, and may run again: a permanent refusal
// too, since who sends it again from a dead-letter sink has mended something. A
// receiver that accepts after its deadline is remembered all the same.
//
// It holds within one process, in bounds: 10,000 events and 8 MiB for all
// receivers together, the oldest answers going first. A reply over 1 MiB is not
// kept. Other replicas, and this one after a restart, know nothing of it: an effect
// that must never come twice needs a key in the database that it goes to.
func Deduplicate(age time.Duration) Option {
	return func(r *registration) error {
		if age <= 0 {
			return errors.New("deduplicate: the age is not positive")
		}
		r.remember = max(r.remember, age)
		return nil
	}
}

// Once is [Deduplicate] for events that no sender sends again in good faith. Whatever
// became of such an event, a failure included, its duplicate gets the same answer and
// does not run.
func Once(age time.Duration) Option {
	return func(r *registration) error {
		r.once = true
		return Deduplicate(age)(r)
	}
}

// Permanent marks an error that no retry can fix: the sender gets 422, which
// Knative's brokers do not retry but send to the dead-letter sink.
func Permanent(err error) error { return &permanent{err} }

type permanent struct{ err error }

func (p *permanent) Error() string { return fmt.Sprintf("permanent: %v", p.err) }
func (p *permanent) Unwrap() error { return p.err }

// RetryAfter marks an error that may have passed after d: the sender gets 503 with
// Retry-After, in whole seconds and at least one.
//
// Knative's brokers ignore that header, and go by the Trigger's own backoff, unless the feature
// flag delivery-retryafter is on and the Trigger sets retryAfterMax. With knative/eventing's five
// retries, after 1, 2, 4, 8 and 16 s, an event that is not accepted within about half a minute
// goes to the dead-letter sink, whatever d is.
func RetryAfter(d time.Duration, err error) error { return &retryAfter{d, err} }

type retryAfter struct {
	after time.Duration
	err   error
}

func (r *retryAfter) Error() string { return fmt.Sprintf("retry after %v: %v", r.after, r.err) }
func (r *retryAfter) Unwrap() error { return r.err }
