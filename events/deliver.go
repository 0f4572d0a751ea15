package events

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A delivery is one event on its way to its receiver, which runs on the goroutine that
// delivers. A goroutine for each receiver would cost nearly half of an event.
type delivery struct {
	events   *Events
	leave    func() // gives the slot back when the receiver returns; nil if the caller does
	context  receiving
	receiver *registration
	event    event.Event
	claim    Claim // nil if the receiver does not deduplicate
	verdict  Verdict
	lost     atomic.Bool // the claim has another owner

	mu      sync.Mutex
	over    bool          // the receiver has returned, or its sender was answered instead
	instead func(Verdict) // answers the sender in the receiver's place
}

// deliver hands an event to a receiver, nil for none, and counts the outcome. It returns when
// the receiver does, with its verdict; or with false where the sender was answered before, by
// instead: when the deadline passed, on another goroutine, or when the receiver ended its
// goroutine. When the receiver returns its claim is given back, and leave is called, unless that is
// nil.
//
// A sender who leaves cancels the receiver, but is still waited for: one that only
// closed its side for writing looks the same, and reads the response.
func (e *Events) deliver(ctx context.Context, c *Correlation, leave func(), receiver *registration, in event.Event, instead func(Verdict)) (Verdict, bool) {
	v, ok := e.deliverTo(ctx, c, leave, receiver, in, instead)
	if ok {
		e.count(v.Outcome)
	}
	return v, ok
}

func (e *Events) deliverTo(ctx context.Context, c *Correlation, leave func(), receiver *registration, in event.Event, instead func(Verdict)) (Verdict, bool) {
	if leave == nil {
		leave = func() {}
	}
	if receiver == nil {
		leave()
		return Verdict{Outcome: UnknownType}, true
	}
	deadline, ok := ctx.Deadline() // that of a request has none
	if !ok {
		deadline = time.Now().Add(e.config.Timeout)
	}
	d := &delivery{
		events: e, leave: leave, receiver: receiver, event: in, instead: instead,
		verdict: Verdict{Outcome: Failed}, // of a receiver that does not return
	}
	d.context.of(ctx, c, deadline)
	if receiver.remember > 0 {
		var earlier Verdict
		if d.claim, earlier = e.claim(ctx, receiver, in, deadline, d.lose); d.claim == nil {
			leave()
			return earlier, true
		}
	}
	alarm := e.setAlarm(d, time.Until(deadline))
	d.run()
	e.stopAlarm(alarm)
	return d.verdict, d.end()
}

// run runs the receiver. Whatever becomes of it, a panic or runtime.Goexit included, there is
// a verdict, and its claim is given back.
func (d *delivery) run() {
	returned := false
	defer func() {
		p := recover()
		if p != nil {
			d.events.panicked(&d.context, p)
		}
		if d.claim != nil {
			d.verdict = d.events.settle(&d.context, d.claim, d.verdict, d.receiver)
		}
		d.context.end()
		d.leave()
		if p == nil && !returned { // Goexit: nothing after this runs
			d.answer(d.verdict)
		}
	}()
	d.verdict = d.receive()
	returned = true
}

// lose ends the receiver's context, since its claim has another owner.
func (d *delivery) lose() {
	d.lost.Store(true)
	d.context.end()
}

// receive has the receiver receive, and returns the verdict that it makes.
func (d *delivery) receive() Verdict {
	ctx := context.Context(&d.context)
	if d.claim != nil {
		ctx = d.claim.Context(ctx)
	}
	reply, err := d.receiver.receive(ctx, d.event)
	switch {
	case err != nil && d.lost.Load():
		return Verdict{Outcome: Retry, RetryAfter: time.Second} // the other owner's answer is the sender's
	case err != nil:
		return verdictOf(&d.context, err)
	case reply == nil:
		return Verdict{Outcome: Accepted}
	}
	out, err := d.events.complete(*reply, d.context.correlation.Traceparent)
	if err != nil {
		d.events.logger.LogAttrs(&d.context, slog.LevelWarn, "a reply is no valid event", slog.String("attribute", MalformedVerdict(err).Attribute))
		return Verdict{Outcome: Failed}
	}
	return Verdict{Outcome: Accepted, Reply: &out}
}

// answer answers the sender in the receiver's place, unless the receiver has returned.
func (d *delivery) answer(v Verdict) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.over = true
	defer func() {
		if p := recover(); p != nil { // on a timer's goroutine it would end the process
			d.events.panicked(&d.context, p)
		}
	}()
	d.events.count(v.Outcome)
	d.instead(v)
}

// end reports whether the sender is still to be answered. Where it was answered instead,
// that is done when end returns.
func (d *delivery) end() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	over := d.over
	d.over = true
	return !over
}

// An alarm is a timer of one delivery's deadline, which is used again if it did not go off.
type alarm struct {
	timer    *time.Timer
	delivery *delivery
}

func (a *alarm) ring() { a.delivery.answer(Verdict{Outcome: Timeout}) }

func (e *Events) setAlarm(d *delivery, after time.Duration) *alarm {
	if a, ok := e.alarms.Get().(*alarm); ok {
		a.delivery = d
		a.timer.Reset(after)
		return a
	}
	a := &alarm{delivery: d}
	a.timer = time.AfterFunc(after, a.ring)
	return a
}

func (e *Events) stopAlarm(a *alarm) {
	if a.timer.Stop() {
		a.delivery = nil
		e.alarms.Put(a)
	}
}
