package events

import (
	"context"
	"sync/atomic"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Dispatch hands an event to the receiver of its type, as POST / does, for a feature
// that gets its events in another way. The event may be of a type that POST / refuses,
// such as com.slack.command: the caller has verified where it is from.
// Options hold for this event, besides those of its receiver.
//
// It takes one of the concurrency limit's slots, and waits for the receiver until its
// deadline: that of ctx if it has one, else Config.Timeout. When ctx ends the
// receiver's context does, too. An event without an id, a source or a time is given one.
func (e *Events) Dispatch(ctx context.Context, in event.Event, options ...Option) Verdict {
	slot := e.Enter()
	if slot == nil {
		return OverloadedVerdict()
	}
	defer slot.Leave()
	return <-slot.Start(ctx, in, options...)
}

// Enter takes a slot for one event, or returns nil where none is free, which is counted as
// [Overloaded]. It is for a feature that does work before it has an event, such as reading a
// body.
func (e *Events) Enter() *Slot { return e.limit.Enter() }

// Full reports whether no slot is free, which is not counted.
func (e *Events) Full() bool { return e.limit.Full() }

// Deliver hands a valid event to the receiver of its type, which runs on this goroutine, and
// returns its verdict when the receiver returns. Where the deadline passes before, or the
// receiver ends its goroutine, instead is called with what to answer in its place, which it
// must have done when it returns; Deliver then returns false. At the deadline it is called on
// another goroutine, while the receiver runs on.
//
// The caller gives the slot back, when it has written the response.
func (s *Slot) Deliver(ctx context.Context, c *Correlation, in event.Event, instead func(Verdict)) (Verdict, bool) {
	e := s.limit.events
	return e.deliver(ctx, c, nil, e.receivers[in.Type()], in, instead)
}

// Start is [Events.Dispatch] in this slot, which the event's receiver gives back when
// it returns. It does not wait: the verdict comes on the channel.
func (s *Slot) Start(ctx context.Context, in event.Event, options ...Option) <-chan Verdict {
	e, verdict := s.limit.events, make(chan Verdict, 1)
	deliver, refused := s.prepare(ctx, in, options, func(v Verdict) { verdict <- v })
	s.use()
	if deliver == nil {
		s.free()
		e.count(refused.Outcome)
		verdict <- refused
		return verdict
	}
	go deliver()
	return verdict
}

// use panics if the slot is no longer held.
func (s *Slot) use() {
	if !s.used.CompareAndSwap(false, true) {
		panic("events: an event is started in a slot that is no longer held")
	}
}

// prepare makes sure that an event is valid, and returns what delivers it and answers once;
// nil and the verdict on one that is not.
func (s *Slot) prepare(ctx context.Context, in event.Event, options []Option, answer func(Verdict)) (deliver func(), refused Verdict) {
	e := s.limit.events
	c := new(Correlation)
	if request := CorrelationOf(ctx); request != nil {
		*c = *request
	} else {
		c.RequestID = NewRequestID()
	}
	in, err := e.complete(in, c.Traceparent)
	if err != nil {
		return nil, MalformedVerdict(err)
	}
	c.Follow(in)
	if first, ok := ctx.Value(dispatchedKey{}).(*atomic.Pointer[event.Event]); ok {
		first.CompareAndSwap(nil, &in)
	}
	receiver := e.receivers[in.Type()]
	if receiver != nil && len(options) > 0 {
		this := *receiver
		for _, option := range options {
			if err := option(&this); err != nil {
				return nil, Verdict{Outcome: Failed}
			}
		}
		if err := e.checkOptions(&this); err != nil {
			return nil, Verdict{Outcome: Failed}
		}
		receiver = &this
	}
	return func() {
		if v, ok := e.deliver(ctx, c, s.free, receiver, in, answer); ok {
			answer(v)
		}
	}, Verdict{}
}

// dispatchedKey is the context key of the first event that a request dispatched.
type dispatchedKey struct{}

// Watch returns a context, and a func that returns the event that was dispatched first with
// it; nil for none. It is for a request's log line.
func Watch(ctx context.Context) (context.Context, func() *event.Event) {
	first := new(atomic.Pointer[event.Event])
	return context.WithValue(ctx, dispatchedKey{}, first), first.Load
}
