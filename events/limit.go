package events

import (
	"context"
	"sync/atomic"
)

// A Limit is a concurrency limit of its own, of Config.InFlight slots: what comes in another
// way cannot use them up.
type Limit struct {
	events *Events
	slots  chan struct{} // holds one for each event in flight
	closed int           // slots that Wait has taken
}

// NewLimit returns another Limit, for a feature that gets events in its own way. Call it before
// the function serves.
func (e *Events) NewLimit() *Limit {
	l := &Limit{events: e, slots: make(chan struct{}, e.config.InFlight)}
	e.limits = append(e.limits, l)
	return l
}

// inFlight returns how many events are in flight.
func (e *Events) inFlight() float64 {
	n := 0
	for _, l := range e.limits {
		n += len(l.slots)
	}
	return float64(n)
}

// A Slot is one of a Limit's, for one event.
type Slot struct {
	limit *Limit
	used  atomic.Bool
	after func() // nil for none
}

// After has f called when the slot is given back: when the receiver has returned, however long
// after its deadline, or by [Slot.Leave]. It is for what the event holds, such as the memory of a
// body. Call it once, before an event is started.
func (s *Slot) After(f func()) { s.after = f }

// free gives the slot back.
func (s *Slot) free() {
	s.limit.leave()
	if s.after != nil {
		s.after()
	}
}

// Enter takes a slot for one event, or returns nil where none is free, which is counted as
// [Overloaded].
func (l *Limit) Enter() *Slot {
	select {
	case l.slots <- struct{}{}:
		return &Slot{limit: l}
	default:
		l.events.count(Overloaded)
		return nil
	}
}

// Full reports whether no slot is free.
func (l *Limit) Full() bool { return len(l.slots) == cap(l.slots) }

// leave gives a slot back.
func (l *Limit) leave() { <-l.slots }

// Leave gives the slot back, unless an event was started in it.
func (s *Slot) Leave() {
	if s.used.CompareAndSwap(false, true) {
		s.free()
	}
}

// close takes every slot for good, and returns how many are in use when ctx ends.
func (l *Limit) close(ctx context.Context) int {
	for ; l.closed < cap(l.slots); l.closed++ {
		select {
		case l.slots <- struct{}{}:
			continue
		default:
		}
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return len(l.slots) - l.closed
		}
	}
	return 0
}
