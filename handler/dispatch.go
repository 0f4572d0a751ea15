package handler

import (
	"bytes"
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Verdict is what a sender is told of an event.
type Verdict struct {
	Status     int           // what POST / would answer
	Outcome    string        // as coffeebuddy_events_total counts it
	RetryAfter time.Duration // how long to wait before the event is sent again, 0 for no advice
	Reply      *event.Event  // nil for none
}

// Dispatch hands an event to the receiver of its type, as POST / does, for a feature
// that gets its events in another way. The event may be of a type that POST / refuses,
// such as com.slack.command: whoever dispatches it has made sure where it is from.
// Options hold for this event, besides those of its receiver.
//
// It takes a place among the events in flight, and waits for the receiver until its
// deadline: that of ctx if it has one, else Config.EventTimeout. When ctx ends the
// receiver's context does, too. An event without an id, a source or a time is given one.
func (h *Handler) Dispatch(ctx context.Context, e event.Event, options ...Option) Verdict {
	place := h.Enter()
	if place == nil {
		return verdictOf(full())
	}
	defer place.Leave()
	return <-place.Start(ctx, e, options...)
}

// A Place is one among the events in flight, of which there are Config.EventsInFlight.
type Place struct {
	handler *Handler
	used    atomic.Bool
}

// Enter takes a place for one event, or returns nil where all are taken, which counts
// as overloaded: its sender is to be told to come back. It is for a feature that does
// work before it has an event, such as reading a body.
func (h *Handler) Enter() *Place {
	if !h.enter() {
		h.count(full())
		return nil
	}
	return &Place{handler: h}
}

// Leave gives the place back, unless an event was started in it.
func (p *Place) Leave() {
	if p.used.CompareAndSwap(false, true) {
		p.handler.leave()
	}
}

// Start is [Handler.Dispatch] in this place, which the event's receiver gives back when
// it returns. It does not wait: the verdict comes on the channel. A place is good for
// one event.
func (p *Place) Start(ctx context.Context, e event.Event, options ...Option) <-chan Verdict {
	h, verdict := p.handler, make(chan Verdict, 1)
	deliver, refused := h.prepare(ctx, e, options)
	if !p.used.CompareAndSwap(false, true) {
		panic("handler: an event is started in a place that is no longer held")
	}
	if deliver == nil {
		h.leave()
		h.count(refused)
		verdict <- verdictOf(refused)
		return verdict
	}
	go func() {
		a := deliver()
		h.count(a)
		verdict <- verdictOf(a)
	}()
	return verdict
}

// prepare makes sure that an event is one, and returns what delivers it; nil and the
// answer to what is none.
func (h *Handler) prepare(ctx context.Context, e event.Event, options []Option) (deliver func() answer, refused answer) {
	var c correlation
	if request := correlationOf(ctx); request != nil {
		c = *request
	} else {
		c.requestID = newRequestID()
	}
	header, err := h.encode(&e, c.traceparent)
	if err != nil {
		return nil, undecoded(err)
	}
	if e, err = decodeBinary(header, e.Data()); err != nil {
		return nil, undecoded(err)
	}
	c.follow(e)
	if name, ok := ctx.Value(eventNameKey{}).(*atomic.Pointer[eventName]); ok {
		name.CompareAndSwap(nil, &eventName{e.ID(), e.Source(), e.Type()})
	}
	receiver := h.receivers[e.Type()]
	if receiver != nil && len(options) > 0 {
		this := *receiver
		for _, option := range options {
			if err := option(&this); err != nil {
				return nil, answer{status: http.StatusInternalServerError, outcome: failed}
			}
		}
		receiver = &this
	}
	return func() answer { return h.deliverTo(ctx, &c, receiver, e) }, answer{}
}

// eventNameKey is of the name of the event, in the context of a mounted request, that
// was dispatched first.
type eventNameKey struct{}

func verdictOf(a answer) Verdict {
	v := Verdict{Status: a.status, Outcome: string(a.outcome), RetryAfter: a.after}
	if a.status == http.StatusOK {
		// A copy, as the answer may be remembered. That it is an event encode has made sure of.
		if reply, err := decodeBinary(a.header, bytes.Clone(a.body)); err == nil {
			v.Reply = &reply
		}
	}
	return v
}
