package handler

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/events/attribute"
	"coffeebuddy/events/binding"

	"github.com/cloudevents/sdk-go/v2/event"
)

const (
	// bodyLimit is the size of the largest body, in bytes.
	bodyLimit = 1 << 20

	// bodyTimeout is how long a body may take to come: 1 MiB at 70 kB/s.
	bodyTimeout = 15 * time.Second
)

// errTooLarge is a body over bodyLimit.
var errTooLarge = errors.New("the body is over 1 MiB")

// handleEvent receives one event or plain JSON. Nothing but a receiver, or being
// full, answers 5xx: a sender would retry what can never be understood.
func (h *Handler) handleEvent(w http.ResponseWriter, r *http.Request) {
	resp := w.(*response)
	a := h.receive(resp, r)
	if resp.Traceparent != "" {
		w.Header().Set("Traceparent", resp.Traceparent)
	}
	a.send(w)
}

// receive bounds, decodes and validates in the request's own goroutine, and then
// hands over to the receiver.
func (h *Handler) receive(w *response, r *http.Request) answer {
	// Authorize first: unauthenticated clients learn nothing and hold no slot.
	if refusal, ok := h.authorized(r); !ok {
		return h.refused(refusal)
	}
	mode, err := binding.ModeOf(r.Header)
	if err != nil {
		return h.refused(answer{status: http.StatusUnsupportedMediaType, verdict: events.Verdict{Outcome: events.Malformed}})
	}
	slot := h.events.Enter()
	if slot == nil {
		return answerOf(events.OverloadedVerdict())
	}
	defer slot.Leave()
	body, err := readBody(w, r)
	if err != nil {
		return h.refused(unread(err))
	}
	if mode == binding.Plain {
		e, err := plain(body)
		if err != nil {
			return h.refused(answerOf(events.MalformedVerdict(err)))
		}
		a := answerOf(slot.Deliver(r.Context(), &w.Correlation, e))
		a.plain = true
		return a
	}
	e, err := binding.Decode(mode, r.Header, body)
	if err != nil {
		return h.refused(answerOf(events.MalformedVerdict(err)))
	}
	w.event = nameOf(e)
	w.Follow(e)
	if err := h.admit(r.Context(), e); err != nil {
		return h.refused(answerOf(events.Refusal(r.Context(), err)))
	}
	return answerOf(slot.Deliver(r.Context(), &w.Correlation, e))
}

// refused counts an event that is not delivered.
func (h *Handler) refused(a answer) answer {
	h.events.Count(a.verdict.Outcome)
	return a
}

// admit returns nil unless an event claims to be Slack's and nothing vouches for it.
func (h *Handler) admit(ctx context.Context, e event.Event) error {
	switch {
	case !strings.HasPrefix(e.Type(), "com.slack."), h.config.Environment == "dev", h.config.EventsScope != "":
		return nil
	case h.config.Admit == nil:
		return events.Permanent(errors.New("only Slack's own routes take an event of such a type"))
	}
	return h.config.Admit(ctx, e)
}

// plain returns the event that plain JSON is the data of. It is of the type that
// `func invoke` sends with an envelope, and so has the same receiver.
func plain(body []byte) (event.Event, error) {
	if !attribute.IsJSONObject(body) {
		return event.Event{}, errors.New("the body is no JSON object")
	}
	e := event.New()
	e.SetID(rand.Text())
	e.SetSource("/")
	e.SetType(echoType)
	e.SetDataContentType(event.ApplicationJSON)
	e.DataEncoded = body
	return e, nil
}

// unread is the answer to a body that did not come.
func unread(err error) answer {
	a := answer{status: http.StatusBadRequest, verdict: events.Verdict{Outcome: events.Malformed}}
	switch {
	case errors.Is(err, errTooLarge):
		a.status = http.StatusRequestEntityTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The event may be fine and the network slow: Knative's brokers retry a 408.
		a.status, a.verdict.Outcome = http.StatusRequestTimeout, events.Timeout
	}
	return a
}

// readBody reads the whole body, at most bodyLimit. It grows with what comes, not
// with what Content-Length promises.
func readBody(w *response, r *http.Request) ([]byte, error) {
	switch {
	case r.ContentLength > bodyLimit:
		return nil, errTooLarge
	case r.ContentLength == 0:
		// net/http watches for the sender to leave already. A deadline now would end
		// that, and with it the context of the receiver.
		return nil, nil
	}
	// Where the connection has no deadlines, in a test, the body is there already.
	_ = http.NewResponseController(w).SetReadDeadline(w.began.Add(bodyTimeout))
	const unknown, most = 512, 16 << 10
	size := r.ContentLength + 1 // and one, to see the end
	if r.ContentLength < 0 {
		size = unknown
	}
	body := make([]byte, 0, min(size, most))
	for {
		if len(body) == cap(body) {
			body = slices.Grow(body, min(len(body), bodyLimit+1-len(body)))
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > bodyLimit:
			return nil, errTooLarge
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, err
		}
	}
}
