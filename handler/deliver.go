package handler

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A delivery is one event, or plain JSON, on its way to its receiver.
type delivery struct {
	values   detached
	receiver *registration // nil for plain JSON
	event    event.Event
	plain    []byte
	claim    *claim        // nil where duplicates do not matter
	done     chan struct{} // closed when there is an answer
	answer   answer
}

// deliver finds the receiver of an event and hands it over. It gives the place back
// that its caller has taken.
func (h *Handler) deliver(ctx context.Context, c *correlation, e event.Event) answer {
	d := &delivery{values: detached{ctx, c}, receiver: h.receivers[e.Type()], event: e}
	if d.receiver == nil {
		h.leave()
		return answer{status: http.StatusUnprocessableEntity, outcome: unknownType}
	}
	if d.receiver.remember > 0 {
		claim, earlier := h.claims.claim(keyOf(d.receiver.eventType, e.Source(), e.ID()))
		if claim == nil {
			h.leave()
			return earlier
		}
		d.claim = claim
	}
	return h.run(ctx, d)
}

// deliverPlain is deliver for plain JSON.
func (h *Handler) deliverPlain(ctx context.Context, c *correlation, body []byte) answer {
	return h.run(ctx, &delivery{values: detached{ctx, c}, plain: body})
}

// run runs the receiver in a goroutine of its own and waits for it or its deadline.
// The receiver's place and claim are given back when it returns, not when it was
// answered for.
//
// A sender who leaves cancels the receiver, but is still waited for: one that only
// closed its side for writing looks the same, and reads the answer.
func (h *Handler) run(ctx context.Context, d *delivery) answer {
	work, cancel := context.WithTimeout(&d.values, h.config.EventTimeout)
	d.done = make(chan struct{})
	go h.work(work, cancel, d)
	select {
	case <-d.done:
		return d.answer
	case <-work.Done():
	case <-ctx.Done():
		cancel()
	}
	deadline, _ := work.Deadline()
	patience := time.NewTimer(time.Until(deadline))
	defer patience.Stop()
	select {
	case <-d.done:
		return d.answer
	case <-patience.C:
		return answer{status: http.StatusServiceUnavailable, outcome: timedOut}
	}
}

// work is the goroutine of one delivery. Whatever becomes of the receiver, a panic
// or runtime.Goexit included, there is an answer, sent when all is given back.
func (h *Handler) work(ctx context.Context, cancel context.CancelFunc, d *delivery) {
	d.answer = answer{status: http.StatusInternalServerError, outcome: failed}
	defer func() {
		if p := recover(); p != nil {
			h.panicked(ctx, p)
		}
		if d.claim != nil {
			h.claims.settle(d.claim, d.answer, d.receiver.remember)
		}
		h.leave()
		close(d.done)
		cancel()
	}()
	d.answer = h.verdict(ctx, d)
}

// verdict is the one place where what a receiver returns becomes a status. None is a
// 404, which Knative's brokers would retry.
func (h *Handler) verdict(ctx context.Context, d *delivery) answer {
	var a answer
	var err error
	if d.receiver == nil {
		a, err = h.echoPlain(d.plain)
	} else {
		a, err = h.reply(ctx, d)
	}
	if err == nil {
		return a
	}
	if _, ok := errors.AsType[*permanent](err); ok {
		return answer{status: http.StatusUnprocessableEntity, outcome: rejected}
	}
	if later, ok := errors.AsType[*retryAfter](err); ok {
		return answer{status: http.StatusServiceUnavailable, outcome: retry, after: max(later.after, time.Second)}
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return answer{status: http.StatusServiceUnavailable, outcome: timedOut}
	}
	return answer{status: http.StatusInternalServerError, outcome: failed}
}

// reply has the receiver receive, and returns the answer that is its reply.
func (h *Handler) reply(ctx context.Context, d *delivery) (answer, error) {
	reply, err := d.receiver.receive(ctx, d.event)
	switch {
	case err != nil:
		return answer{}, err
	case reply == nil:
		return answer{status: http.StatusNoContent, outcome: accepted}, nil
	}
	header, err := h.encode(reply, d.values.correlation.traceparent)
	if err != nil {
		h.logger.LogAttrs(ctx, slog.LevelWarn, "a reply is no valid event", slog.String("attribute", undecoded(err).attribute))
	}
	return answer{status: http.StatusOK, outcome: accepted, header: header, body: reply.Data()}, err
}

// detached is a context with a request's values and correlation, but without its
// connection: it has no end.
type detached struct {
	context.Context //nolint:containedctx // it is a context

	correlation *correlation
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
//
// It takes a place among the events in flight, and waits for the receiver until its
// deadline. When ctx ends the receiver's context does, too. An event without an id,
// a source or a time is given one.
func (h *Handler) Dispatch(ctx context.Context, e event.Event) Verdict {
	a := h.dispatched(ctx, e)
	h.count(a)
	v := Verdict{Status: a.status, Outcome: string(a.outcome), RetryAfter: a.after}
	if a.status == http.StatusOK {
		// A copy, as the answer may be remembered. That it is an event encode has made sure of.
		if reply, err := decodeBinary(a.header, bytes.Clone(a.body)); err == nil {
			v.Reply = &reply
		}
	}
	return v
}

func (h *Handler) dispatched(ctx context.Context, e event.Event) answer {
	var c correlation
	if request := correlationOf(ctx); request != nil {
		c = *request
	} else {
		c.requestID = newRequestID()
	}
	header, err := h.encode(&e, c.traceparent)
	if err != nil {
		return undecoded(err)
	}
	if e, err = decodeBinary(header, e.Data()); err != nil {
		return undecoded(err)
	}
	c.follow(e)
	if !h.enter() {
		return full()
	}
	return h.deliver(ctx, &c, e)
}
