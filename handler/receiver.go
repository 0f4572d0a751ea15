package handler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Receiver handles one event. Its context ends at its deadline, or when the
// sender has left.
//
// What it returns is the verdict: nil and nil accepts the event (204), an event
// is sent as the reply (200). [Permanent] refuses it for good, [RetryAfter] asks
// for it again later, and any other error is a failure (500), which Knative's
// brokers retry as well.
type Receiver func(context.Context, event.Event) (*event.Event, error)

// On registers a receiver for a type of event. A type has one receiver.
func (h *Handler) On(eventType string, receiver Receiver) error {
	switch {
	case eventType == "":
		return errors.New("register a receiver: the event type is empty")
	case receiver == nil:
		return fmt.Errorf("register a receiver for %s: it is nil", eventType)
	case h.receivers[eventType] != nil:
		return fmt.Errorf("register a receiver for %s: it has one already", eventType)
	}
	h.receivers[eventType] = receiver
	return nil
}

// Permanent marks an error that no retry can mend: the sender gets 422, which
// Knative's brokers do not retry but send to the dead-letter sink.
func Permanent(err error) error { return &permanent{err} }

type permanent struct{ err error }

func (p *permanent) Error() string { return "permanent: " + p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

// RetryAfter marks an error that may have passed after d: the sender gets 503 with
// Retry-After, in whole seconds and at least one.
func RetryAfter(d time.Duration, err error) error { return &retryAfter{d, err} }

type retryAfter struct {
	after time.Duration
	err   error
}

func (r *retryAfter) Error() string { return fmt.Sprintf("retry after %v: %v", r.after, r.err) }
func (r *retryAfter) Unwrap() error { return r.err }
