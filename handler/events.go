package handler

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"

	"coffeebuddy/events"
	"coffeebuddy/events/attribute"
	"coffeebuddy/events/binding"
	"coffeebuddy/internal/bounded"

	"github.com/cloudevents/sdk-go/v2/event"
)

// handleEvent receives one event or plain JSON. Nothing but a receiver, or being
// full, answers 5xx: a sender would retry what can never be understood.
func (h *Handler) handleEvent(w http.ResponseWriter, r *http.Request) {
	resp := w.(*response)
	e, plain, body, refusal := h.accept(resp, r)
	defer body.Release()
	if refusal != nil {
		h.events.Count(refusal.verdict.Outcome)
		body.Release()
		refusal.sendTo(resp)
		return
	}
	// Slots are for receivers, and for what they answer until that is written: a body that is
	// slow to arrive holds none, and a sender that does not read its response does.
	slot := h.events.Enter()
	if slot == nil {
		body.Release()
		answerOf(events.OverloadedVerdict()).sendTo(resp)
		return
	}
	defer slot.Leave()
	if !body.Move(&h.bodies.received) {
		h.events.Count(events.Overloaded)
		body.Release()
		answerOf(events.OverloadedVerdict()).sendTo(resp)
		return
	}
	ctx := r.Context()
	if resp.principal != "" {
		ctx = events.WithPrincipal(ctx, resp.principal)
	}
	v, ok := slot.Deliver(ctx, &resp.Correlation, e, func(v events.Verdict) {
		resp.flush(answerOf(v).sendTo)
		h.answered(resp, r)
	})
	if ok {
		a := answerOf(v)
		a.plain = plain
		a.sendTo(resp)
	}
}

// accept bounds, decodes and validates what came: an event, or plain JSON as one, or else the
// answer that refuses it. Release the body in any case.
func (h *Handler) accept(w *response, r *http.Request) (e event.Event, plain bool, body bounded.Body, refusal *answer) {
	// Authorize first: unauthenticated clients learn nothing and hold no slot.
	if refusal, ok := h.authorized(w, r); !ok {
		return e, false, body, &refusal
	}
	mode, err := binding.ModeOf(r.Header)
	if err != nil {
		return e, false, body, &answer{status: http.StatusUnsupportedMediaType, verdict: events.Verdict{Outcome: events.Malformed}}
	}
	if h.events.Full() {
		return e, false, body, new(answerOf(events.OverloadedVerdict()))
	}
	if body, err = h.bodies.read(w, r); err != nil {
		return e, false, body, new(unread(err))
	}
	if e, err = h.decode(mode, r.Header, body.Text); err != nil {
		return e, false, body, new(undecoded(err))
	}
	if h.config.Echo && e.Type() == echoType && len(e.Data()) > echoLimit {
		return e, false, body, &answer{status: http.StatusRequestEntityTooLarge, verdict: events.Verdict{Outcome: events.Malformed}}
	}
	if mode == binding.Plain {
		return e, true, body, nil
	}
	w.event = nameOf(e)
	w.Follow(e)
	if err := h.admit(r.Context(), e); err != nil {
		return e, false, body, new(answerOf(events.Refusal(r.Context(), err)))
	}
	return e, false, body, nil
}

// decode is decode for a few large bodies at a time.
func (h *Handler) decode(mode binding.Mode, header http.Header, body []byte) (event.Event, error) {
	if len(body) > decodesFreely {
		h.decoding <- struct{}{}
		defer func() { <-h.decoding }()
	}
	return decode(mode, header, body)
}

// decode returns the event that a request carries. Plain JSON is the data of an event of the
// type that `func invoke` sends with an envelope, and so has the same receiver.
func decode(mode binding.Mode, header http.Header, body []byte) (event.Event, error) {
	if mode != binding.Plain {
		return binding.Decode(mode, header, body)
	}
	switch {
	case !attribute.IsJSONObject(body):
		return event.Event{}, errors.New("the body is no JSON object")
	case isEnvelope(body):
		return event.Event{}, errEnvelope
	}
	e := event.New()
	e.SetID(rand.Text())
	e.SetSource("/")
	e.SetType(echoType)
	e.SetDataContentType(event.ApplicationJSON)
	e.DataEncoded = body
	return e, nil
}

// admit returns nil unless an event claims to be Slack's and nothing vouches for it.
func (h *Handler) admit(ctx context.Context, e event.Event) error {
	switch {
	case !strings.HasPrefix(e.Type(), "com.slack."), h.config.EventsScope != "":
		return nil
	case h.config.Admit != nil:
		return h.config.Admit(ctx, e)
	case h.config.Environment == "dev": // where Slack is not configured: so a feature can be tried
		return nil
	}
	return events.Permanent(errors.New("only Slack's own routes take an event of such a type"))
}

// errEnvelope is an event in structured mode that is sent as plain JSON. To take it for data
// would lose it.
var errEnvelope = errors.New("the body is an event, and its content type is not")

// isEnvelope reports whether a JSON object has what every event has.
func isEnvelope(body []byte) bool {
	if !bytes.Contains(body, []byte(`specversion"`)) { // nearly always
		return false
	}
	members, err := attribute.Members(body) // which are bounded, as those of an event are
	if err != nil {
		return false
	}
	missing := []string{"specversion", "id", "source", "type"}
	for _, m := range members {
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == m.Name })
	}
	return len(missing) == 0
}

// undecoded is the answer to a body that is no event.
func undecoded(err error) answer {
	if errors.Is(err, errEnvelope) {
		return answer{
			status:  http.StatusUnsupportedMediaType,
			verdict: events.Verdict{Outcome: events.Malformed, Attribute: "datacontenttype"},
		}
	}
	return answerOf(events.MalformedVerdict(err))
}

// unread is the answer to a body that was not read.
func unread(err error) answer {
	a := answer{status: http.StatusBadRequest, verdict: events.Verdict{Outcome: events.Malformed}}
	switch {
	case errors.Is(err, bounded.ErrTooLarge):
		a.status = http.StatusRequestEntityTooLarge
	case errors.Is(err, bounded.ErrNoRoom):
		return answerOf(events.OverloadedVerdict())
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The event may be fine and the network slow: Knative's brokers retry a 408.
		a.status, a.verdict.Outcome = http.StatusRequestTimeout, events.Timeout
	}
	return a
}
