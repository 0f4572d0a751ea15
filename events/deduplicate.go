package events

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// leaseMargin is how much longer than its receiver's deadline a claim is held without a sign
// of life of its owner.
const leaseMargin = 5 * time.Second

// claim returns a claim to be settled, or nil and the verdict on an event that must not be
// received. Lost is called if the claim has got another owner.
func (e *Events) claim(ctx context.Context, r *registration, in event.Event, deadline time.Time, lost func()) (Claim, Verdict) {
	c, err := e.ledger.Claim(ctx, Request{
		// The sender is part of the key where it is known, so that nobody claims an event in
		// the name of another.
		Key:           KeyOf(r.eventType, principalOf(ctx), in.Source(), in.ID()),
		Data:          sha256.Sum256(in.Data()),
		Receiver:      r.eventType,
		Lease:         time.Until(deadline) + leaseMargin,
		Keep:          r.remember,
		Lost:          lost,
		Transactional: r.transactional,
	})
	switch answered := (*Answered)(nil); {
	case err == nil:
		return c, Verdict{}
	case errors.As(err, &answered):
		return nil, again(answered.Record)
	case errors.Is(err, ErrRunning):
		return nil, Verdict{Outcome: Duplicate}
	case errors.Is(err, ErrMismatch):
		return nil, Verdict{Outcome: Mismatch}
	}
	return nil, Verdict{Outcome: Retry, RetryAfter: time.Second}
}

// again returns the verdict on a duplicate. Where a later version has written the record, all
// that is known is that the event was received.
func again(record []byte) Verdict {
	v, err := verdictIn(record)
	if err != nil {
		return Verdict{Outcome: Duplicate, First: Accepted}
	}
	v.First, v.Outcome = v.Outcome, Duplicate
	return v
}

// settle ends a claim, and returns the verdict that its event gets. An accepted event is
// remembered; any other may be received again, unless its receiver is to run once.
//
// Where an accepted event cannot be remembered, its sender is told that it was accepted all the
// same, since its effect is there. If the effect was rolled back with the record, the sender is
// to send it again.
func (e *Events) settle(ctx context.Context, c Claim, v Verdict, r *registration) Verdict {
	if v.Outcome != Accepted && !r.once {
		if err := c.Release(ctx); err != nil {
			e.unsettled(ctx, err)
		}
		return v
	}
	err := c.Settle(ctx, recordOf(v))
	if errors.Is(err, ErrTooLarge) {
		if !r.once && !e.shared {
			err = c.Release(ctx)
		} else {
			err = c.Settle(ctx, recordOf(Verdict{Outcome: Accepted}))
		}
	}
	if err == nil {
		return v
	}
	e.unsettled(ctx, err)
	if r.transactional {
		return Verdict{Outcome: Retry, RetryAfter: time.Second}
	}
	return v
}

// unsettled logs that a claim could not be ended.
func (e *Events) unsettled(ctx context.Context, err error) {
	e.logger.LogAttrs(ctx, slog.LevelWarn, "a claim could not be settled", slog.String("reason", err.Error()))
}

// principalKey is the context key of the sender that a request has authenticated as.
type principalKey struct{}

// WithPrincipal returns a context for events from a sender that has proved its identity. Events
// of different senders are no duplicates of each other.
func WithPrincipal(ctx context.Context, principal string) context.Context {
	return context.WithValue(ctx, principalKey{}, principal)
}

func principalOf(ctx context.Context) string {
	principal, _ := ctx.Value(principalKey{}).(string)
	return principal
}
