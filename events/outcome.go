package events

import (
	"context"
	"errors"
	"time"

	"coffeebuddy/events/attribute"

	"github.com/cloudevents/sdk-go/v2/event"
)

// An Outcome says what became of an event. It is the label of coffeebuddy_events_total and,
// for an error, the error code in a response's body.
type Outcome string

// The outcomes.
const (
	Accepted     Outcome = "accepted"     // its receiver returned no error
	Duplicate    Outcome = "duplicate"    // it came before, and its receiver did not run again; see Verdict.First
	Malformed    Outcome = "malformed"    // it is no valid event, or too large. No retry helps
	UnknownType  Outcome = "unknown_type" // no receiver is registered for its type
	Rejected     Outcome = "rejected"     // its receiver returned a Permanent error. No retry helps
	Mismatch     Outcome = "mismatch"     // it has the source and id of an earlier event, but other data. No retry helps
	Unauthorized Outcome = "unauthorized" // its sender may not send events
	Overloaded   Outcome = "overloaded"   // the concurrency limit was reached: send it again soon
	Retry        Outcome = "retry"        // its receiver returned RetryAfter, or something it needs is unavailable
	Timeout      Outcome = "timeout"      // its deadline passed: the receiver's, or that of its body
	Failed       Outcome = "failed"       // its receiver returned any other error, or panicked
	Abandoned    Outcome = "abandoned"    // its sender left before the receiver was done, which gave up
)

// outcomes returns all of them.
func outcomes() []Outcome {
	return []Outcome{
		Accepted, Duplicate, Malformed, UnknownType, Rejected, Mismatch, Unauthorized, Overloaded, Retry, Timeout, Failed, Abandoned,
	}
}

// A Verdict is the result of an event, from which its sender's response is made.
type Verdict struct {
	Outcome    Outcome
	First      Outcome       // for a Duplicate: what became of the first one, "" while that is running
	Reply      *event.Event  // nil for none; not to be changed
	RetryAfter time.Duration // how long to wait before the event is sent again, 0 for no advice
	Attribute  string        // for Malformed: the attribute at fault, "" for none in particular
}

// MalformedVerdict returns the verdict on what an error of decoding or checking is about.
func MalformedVerdict(err error) Verdict {
	v := Verdict{Outcome: Malformed}
	if wrong, ok := errors.AsType[*attribute.Error](err); ok {
		v.Attribute = wrong.Attribute()
	}
	return v
}

// Refusal returns the verdict on an event that is refused with an error before it is
// delivered: the one that the error would make if its receiver returned it.
func Refusal(ctx context.Context, err error) Verdict { return verdictOf(ctx, err) }

// OverloadedVerdict returns the verdict on an event for which no slot is free.
func OverloadedVerdict() Verdict { return Verdict{Outcome: Overloaded, RetryAfter: time.Second} }

// verdictOf is the one place where a receiver's error becomes a verdict.
func verdictOf(ctx context.Context, err error) Verdict {
	if _, ok := errors.AsType[*permanent](err); ok {
		return Verdict{Outcome: Rejected}
	}
	if later, ok := errors.AsType[*retryAfter](err); ok {
		return Verdict{Outcome: Retry, RetryAfter: max(later.after, time.Second)}
	}
	switch { // whatever the error says, which a driver may have put in its own words
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Verdict{Outcome: Timeout}
	case ctx.Err() != nil:
		return Verdict{Outcome: Abandoned}
	}
	return Verdict{Outcome: Failed}
}
