package events

import (
	"context"
	"log/slog"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A delivery is one event on its way to its receiver.
type delivery struct {
	limit    *Limit
	values   detached
	receiver *registration
	event    event.Event
	claim    *claim        // nil if the receiver does not deduplicate
	done     chan struct{} // closed when there is a verdict
	verdict  Verdict
}

// deliver hands an event to a receiver, nil for none, and counts the outcome. It gives back
// the slot that its caller has taken.
func (l *Limit) deliver(ctx context.Context, c *Correlation, receiver *registration, in event.Event) Verdict {
	v := l.deliverTo(ctx, c, receiver, in)
	l.events.count(v.Outcome)
	return v
}

func (l *Limit) deliverTo(ctx context.Context, c *Correlation, receiver *registration, in event.Event) Verdict {
	e := l.events
	if receiver == nil {
		l.leave()
		return Verdict{Outcome: UnknownType}
	}
	d := &delivery{limit: l, values: detached{ctx, c}, receiver: receiver, event: in}
	if receiver.remember > 0 {
		claim, earlier := e.claims.claim(keyOf(receiver.eventType, in.Source(), in.ID()))
		if claim == nil {
			l.leave()
			return earlier
		}
		d.claim = claim
	}
	return e.run(ctx, d)
}

// run runs the receiver in a goroutine of its own and waits for it or its deadline. The
// receiver's slot and claim are given back when it returns, not when the sender was answered
// in its place.
//
// A sender who leaves cancels the receiver, but is still waited for: one that only
// closed its side for writing looks the same, and reads the response.
func (e *Events) run(ctx context.Context, d *delivery) Verdict {
	deadline, ok := ctx.Deadline() // that of a request has none
	if !ok {
		deadline = time.Now().Add(e.config.Timeout)
	}
	work, cancel := context.WithDeadline(&d.values, deadline)
	d.done = make(chan struct{})
	go e.work(work, cancel, d)
	select {
	case <-d.done:
		return d.verdict
	case <-work.Done():
	case <-ctx.Done():
		cancel()
	}
	patience := time.NewTimer(time.Until(deadline))
	defer patience.Stop()
	select {
	case <-d.done:
		return d.verdict
	case <-patience.C:
		return Verdict{Outcome: Timeout}
	}
}

// work is the goroutine of one delivery. Whatever becomes of the receiver, a panic
// or runtime.Goexit included, there is a verdict, known when all is given back.
func (e *Events) work(ctx context.Context, cancel context.CancelFunc, d *delivery) {
	d.verdict = Verdict{Outcome: Failed}
	defer func() {
		if p := recover(); p != nil {
			e.panicked(ctx, p)
		}
		if d.claim != nil {
			e.claims.settle(d.claim, d.verdict, d.receiver)
		}
		d.limit.leave()
		close(d.done)
		cancel()
	}()
	d.verdict = e.receive(ctx, d)
}

// receive has the receiver receive, and returns the verdict that it makes.
func (e *Events) receive(ctx context.Context, d *delivery) Verdict {
	reply, err := d.receiver.receive(ctx, d.event)
	switch {
	case err != nil:
		return verdictOf(ctx, err)
	case reply == nil:
		return Verdict{Outcome: Accepted}
	}
	out, err := e.complete(*reply, d.values.correlation.Traceparent)
	if err != nil {
		e.logger.LogAttrs(ctx, slog.LevelWarn, "a reply is no valid event", slog.String("attribute", MalformedVerdict(err).Attribute))
		return Verdict{Outcome: Failed}
	}
	return Verdict{Outcome: Accepted, Reply: &out}
}

// detached is a context with a request's values and correlation, but without its
// connection: it has no end.
type detached struct {
	context.Context //nolint:containedctx // it is a context

	correlation *Correlation
}

func (*detached) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*detached) Done() <-chan struct{}       { return nil }
func (*detached) Err() error                  { return nil }

func (d *detached) Value(key any) any {
	if key == (correlationKey{}) {
		return d.correlation
	}
	return d.Context.Value(key)
}
