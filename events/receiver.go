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

	transactional bool // what it writes is committed with the record of its event
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
	if err := e.checkOptions(r); err != nil {
		return fmt.Errorf("register a receiver for %s: %w", eventType, err)
	}
	e.receivers[eventType] = r
	return nil
}

// checkOptions returns an error for options that cannot be had together, or here.
func (e *Events) checkOptions(r *registration) error {
	switch {
	case r.transactional && !e.shared:
		return errors.New("transactional: no ledger is configured: COFFEEBUDDY_LEDGER is not set")
	case r.transactional && r.once:
		return errors.New("transactional: an effect that is rolled back has not come once")
	}
	return nil
}

// Deduplicate makes a receiver idempotent: the same source and id again, within age after the
// response, gets that response without the receiver, with the header Idempotent-Replayed: true.
// While the receiver still runs it gets 409, which Knative's brokers retry. With other data it
// gets 422, outcome [Mismatch], once the first is remembered. Events of senders that have
// authenticated as different principals are different events.
//
// Only an accepted event is remembered, with its reply. One that was refused, failed
// or timed out has had no effect that counts, and may run again: a permanent refusal
// too, since who sends it again from a dead-letter sink has mended something. A
// receiver that accepts after its deadline is remembered all the same.
//
// Without a ledger (COFFEEBUDDY_LEDGER) it holds within one process and its bounds, see
// [Memory]; a reply over 1 MiB is not kept, and its event may run again. With one it holds for
// all pods, each event is received at most once per lease, and the duplicate of an event whose
// reply is over 64 KiB gets 204. If the ledger cannot be asked, events get 503 with Retry-After.
// In both cases a receiver whose pod dies halfway runs again: see [Transactional].
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

// Transactional is [Deduplicate] for a receiver that writes to the database of the ledger. The
// transaction is in its context, see coffeebuddy/ledger.Tx: what it writes there, the events that
// it sends with [Events.Send], and the record that its event was received are committed together,
// or not at all. So they take effect exactly once. What it does elsewhere does not.
//
// It needs a ledger, and is an error of [Events.On] without one. It cannot be had with [Once].
func Transactional(age time.Duration) Option {
	return func(r *registration) error {
		r.transactional = true
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
