package handler

import (
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
	return h.deliverTo(ctx, c, h.receivers[e.Type()], e)
}

// deliverTo is deliver to a receiver that was found, or nil.
func (h *Handler) deliverTo(ctx context.Context, c *correlation, receiver *registration, e event.Event) answer {
	d := &delivery{values: detached{ctx, c}, receiver: receiver, event: e}
	if receiver == nil {
		h.leave()
		return answer{status: http.StatusUnprocessableEntity, outcome: unknownType}
	}
	if receiver.remember > 0 {
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
	deadline, ok := ctx.Deadline() // that of a request has none
	if !ok {
		deadline = time.Now().Add(h.config.EventTimeout)
	}
	work, cancel := context.WithDeadline(&d.values, deadline)
	d.done = make(chan struct{})
	go h.work(work, cancel, d)
	select {
	case <-d.done:
		return d.answer
	case <-work.Done():
	case <-ctx.Done():
		cancel()
	}
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
			h.claims.settle(d.claim, d.answer, d.receiver)
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
