package handler

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
)

const (
	// bodyLimit is the size of the largest body, in bytes.
	bodyLimit = 1 << 20

	// bodyTimeout is how long a body may take to come: 1 MiB at 70 kB/s.
	bodyTimeout = 15 * time.Second
)

// An answer is what a sender gets: a status, and what was replied or an error's word.
type answer struct {
	status    int
	outcome   outcome
	attribute string        // of an event that is malformed there
	after     time.Duration // Retry-After, 0 for none

	header map[string][]string // of a reply
	body   []byte              // of a reply
}

// replied returns the answer that is a receiver's reply. A 204 for none has nothing
// that looks like an event: a broker would take that for a reply.
func replied(reply *event.Event) (answer, error) {
	if reply == nil {
		return answer{status: http.StatusNoContent, outcome: accepted}, nil
	}
	header, err := encode(reply)
	return answer{status: http.StatusOK, outcome: accepted, header: header, body: reply.Data()}, err
}

// handleEvent receives one event or plain JSON. Nothing but a receiver, or being
// full, answers 5xx: a sender would retry what can never be understood.
func (h *Handler) handleEvent(w http.ResponseWriter, r *http.Request) {
	a := h.receive(w.(*response), r)
	a.send(w)
	h.metrics.events.WithLabelValues(string(a.outcome)).Inc()
	if a.outcome == accepted {
		h.Reached(FirstEvent)
	}
}

// receive bounds, decodes and validates in the request's own goroutine, and then
// hands over to the receiver.
func (h *Handler) receive(w *response, r *http.Request) answer {
	mode, err := modeOf(r.Header)
	if err != nil {
		return answer{status: http.StatusUnsupportedMediaType, outcome: malformed}
	}
	select {
	case h.slots <- struct{}{}:
	default:
		return answer{status: http.StatusServiceUnavailable, outcome: overloaded, after: time.Second}
	}
	work, refusal := h.prepare(mode, w, r)
	if work == nil {
		<-h.slots
		return refusal
	}
	return h.run(w, r, work)
}

// prepare reads the body and finds what is to be done with it; nil where nothing
// is, and the answer that says why.
func (h *Handler) prepare(mode mode, w *response, r *http.Request) (work, answer) {
	body, err := readBody(w, r)
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge:
		return nil, answer{status: http.StatusRequestEntityTooLarge, outcome: malformed}
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The event may be fine and the network slow: Knative's brokers retry a 408.
		return nil, answer{status: http.StatusRequestTimeout, outcome: timedOut}
	case err != nil:
		return nil, answer{status: http.StatusBadRequest, outcome: malformed}
	}
	if mode == plain {
		if !isJSON(body) || bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
			return nil, answer{status: http.StatusBadRequest, outcome: malformed}
		}
		return func(context.Context) (answer, error) { return h.echoPlain(body) }, answer{}
	}

	e, err := decode(mode, r.Header, body)
	if wrong, ok := errors.AsType[*attributeError](err); ok {
		return nil, answer{status: http.StatusBadRequest, outcome: malformed, attribute: wrong.shown()}
	}
	if err != nil {
		return nil, answer{status: http.StatusBadRequest, outcome: malformed}
	}
	w.event = []slog.Attr{
		slog.String("event_id", printable(e.ID())),
		slog.String("event_source", printable(e.Source())),
		slog.String("event_type", printable(e.Type())),
	}
	if strings.HasPrefix(e.Type(), "com.slack.") && h.config.Environment != "dev" {
		return nil, answer{status: http.StatusUnprocessableEntity, outcome: rejected}
	}
	receiver := h.receivers[e.Type()]
	if receiver == nil {
		return nil, answer{status: http.StatusUnprocessableEntity, outcome: unknownType}
	}
	return func(ctx context.Context) (answer, error) {
		reply, err := receiver(ctx, *e)
		if err != nil {
			return answer{}, err
		}
		return replied(reply)
	}, answer{}
}

// work is a receiver with what it is to receive.
type work func(context.Context) (answer, error)

// run runs the work in a goroutine of its own, under its own recovery, and waits
// for it or its deadline. The work gives its slot back when it returns, not when it
// was answered for.
//
// A sender who leaves cancels the work, but is still waited for: one that only
// closed its side for writing looks the same, and reads the answer.
func (h *Handler) run(w *response, r *http.Request, do work) answer {
	// The request's values, but not its connection.
	deadline, expire := context.WithTimeout(context.WithoutCancel(r.Context()), h.config.EventTimeout)
	ctx, cancel := context.WithCancel(deadline)
	defer context.AfterFunc(r.Context(), cancel)()
	done := make(chan answer, 1)
	go func() {
		defer expire() // wakes the answer, when the slot is free again
		defer func() { <-h.slots }()
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				h.panicked(r, w, p)
				done <- answer{status: http.StatusInternalServerError, outcome: failed}
			}
		}()
		a, err := do(ctx)
		if err != nil {
			a = verdict(ctx, err)
		}
		done <- a
	}()
	<-deadline.Done() // passed, or expired by work that is done
	select {
	case a := <-done:
		return a
	default:
		return answer{status: http.StatusServiceUnavailable, outcome: timedOut}
	}
}

// verdict is the one place where a receiver's error becomes a status. None is a
// 404, which Knative's brokers would retry.
func verdict(ctx context.Context, err error) answer {
	var (
		never *permanent
		later *retryAfter
	)
	switch {
	case errors.As(err, &never):
		return answer{status: http.StatusUnprocessableEntity, outcome: rejected}
	case errors.As(err, &later):
		return answer{status: http.StatusServiceUnavailable, outcome: retry, after: max(later.after, time.Second)}
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return answer{status: http.StatusServiceUnavailable, outcome: timedOut}
	}
	return answer{status: http.StatusInternalServerError, outcome: failed}
}

// readBody reads the whole body, at most bodyLimit. It grows with what comes, not
// with what Content-Length promises.
func readBody(w *response, r *http.Request) ([]byte, error) {
	if r.ContentLength > bodyLimit {
		return nil, &http.MaxBytesError{Limit: bodyLimit}
	}
	// Where the connection has no deadlines, in a test, the body is there already.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), 16<<10)) + bytes.MinRead)
	// The ResponseWriter is net/http's own here: only that one is told to close.
	if _, err := body.ReadFrom(http.MaxBytesReader(w.ResponseWriter, r.Body, bodyLimit)); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// send writes an answer.
func (a answer) send(w http.ResponseWriter) {
	switch {
	case a.outcome != accepted:
		writeError(w, a)
	case a.status == http.StatusNoContent:
		w.WriteHeader(a.status)
	default:
		write(w, a.status, a.header, a.body)
	}
}

// writeError writes an error in its one shape. Both of its values are from closed
// lists: nothing that came in goes out.
func writeError(w http.ResponseWriter, a answer) {
	header := healthHeader()
	if a.after > 0 {
		seconds := (a.after + time.Second - 1) / time.Second
		header["Retry-After"] = []string{strconv.FormatInt(int64(seconds), 10)}
	}
	body := `{"error":"` + string(a.outcome) + `"`
	if a.attribute != "" {
		body += `,"attribute":"` + a.attribute + `"`
	}
	write(w, a.status, header, []byte(body+"}\n"))
}

// printable returns what a log may hold of a value that a sender chose: its
// printable characters, at most 128 bytes of them.
func printable(s string) string {
	const limit = 128
	if len(s) > limit {
		end := limit
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
