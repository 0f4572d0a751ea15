package handler

import (
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
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

// errTooLarge is a body over bodyLimit.
var errTooLarge = errors.New("the body is over 1 MiB")

// An answer is what a sender gets: a status, and what was replied or an error's word.
type answer struct {
	status    int
	outcome   outcome
	attribute string        // of an event that is malformed there
	after     time.Duration // Retry-After, 0 for none
	challenge string        // WWW-Authenticate, "" for none

	header http.Header // of a reply; shared by those who get the same answer
	body   []byte      // of a reply
}

// handleEvent receives one event or plain JSON. Nothing but a receiver, or being
// full, answers 5xx: a sender would retry what can never be understood.
func (h *Handler) handleEvent(w http.ResponseWriter, r *http.Request) {
	resp := w.(*response)
	a := h.receive(resp, r)
	if resp.traceparent != "" {
		w.Header().Set("Traceparent", resp.traceparent)
	}
	h.count(a) // before a long reply has left: whoever has it may ask for the metrics
	a.send(w)
}

// count counts an event by what became of it.
func (h *Handler) count(a answer) {
	h.metrics.events[a.outcome].Inc()
	if a.outcome == accepted {
		h.Reached(FirstEvent)
	}
}

// receive bounds, decodes and validates in the request's own goroutine, and then
// hands over to the receiver.
func (h *Handler) receive(w *response, r *http.Request) answer {
	// Before all else: a stranger learns nothing, and takes no place among the events in
	// flight while his token is asked about.
	if refusal, ok := h.authorized(r); !ok {
		return refusal
	}
	mode, err := modeOf(r.Header)
	if err != nil {
		return answer{status: http.StatusUnsupportedMediaType, outcome: malformed}
	}
	if !h.enter() {
		return full()
	}
	body, err := readBody(w, r)
	if err != nil {
		h.leave()
		return unread(err)
	}
	if mode == plain {
		if !isJSONObject(body) {
			h.leave()
			return answer{status: http.StatusBadRequest, outcome: malformed}
		}
		return h.deliverPlain(r.Context(), &w.correlation, body)
	}
	e, err := decode(mode, r.Header, body)
	if err != nil {
		h.leave()
		return undecoded(err)
	}
	w.event = eventName{e.ID(), e.Source(), e.Type()}
	w.follow(e)
	if strings.HasPrefix(e.Type(), "com.slack.") && h.config.Environment != "dev" && h.config.EventsScope == "" {
		h.leave()
		return answer{status: http.StatusUnprocessableEntity, outcome: rejected}
	}
	return h.deliver(r.Context(), &w.correlation, e)
}

// follow adopts the trace of an event whose request has none.
func (c *correlation) follow(e event.Event) {
	if c.traceparent != "" {
		return
	}
	if traceparent, ok := e.Extensions()["traceparent"].(string); ok {
		c.traceparent = validTraceparent(traceparent)
	}
}

// enter takes a place among the events in flight, if there is one.
func (h *Handler) enter() bool {
	select {
	case h.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (h *Handler) leave() { <-h.slots }

// full is the answer when all places are taken.
func full() answer {
	return answer{status: http.StatusServiceUnavailable, outcome: overloaded, after: time.Second}
}

// unread is the answer to a body that did not come.
func unread(err error) answer {
	switch {
	case errors.Is(err, errTooLarge):
		return answer{status: http.StatusRequestEntityTooLarge, outcome: malformed}
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The event may be fine and the network slow: Knative's brokers retry a 408.
		return answer{status: http.StatusRequestTimeout, outcome: timedOut}
	}
	return answer{status: http.StatusBadRequest, outcome: malformed}
}

// undecoded is the answer to what is no event.
func undecoded(err error) answer {
	a := answer{status: http.StatusBadRequest, outcome: malformed}
	if wrong, ok := errors.AsType[*attributeError](err); ok {
		a.attribute = wrong.shown()
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

// send writes an answer. A 204 has nothing that looks like an event: a broker would
// take that for a reply.
func (a answer) send(w http.ResponseWriter) {
	if a.outcome == duplicate && a.status < http.StatusBadRequest {
		w.Header()["Idempotent-Replayed"] = []string{"true"}
	}
	switch {
	case a.status >= http.StatusBadRequest:
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
		header["Retry-After"] = []string{strconv.FormatInt(int64((a.after-1)/time.Second)+1, 10)}
	}
	if a.challenge != "" {
		header["Www-Authenticate"] = []string{a.challenge}
	}
	body := `{"error":"` + string(a.outcome) + `"`
	if a.attribute != "" {
		body += `,"attribute":"` + a.attribute + `"`
	}
	write(w, a.status, header, []byte(body+"}\n"))
}

// public returns a source without the user and the query that it may have as a URL:
// secrets are there, and a log holds none.
func public(source string) string {
	source, _, _ = strings.Cut(source, "?")
	scheme, rest, found := strings.Cut(source, "//")
	if !found {
		return source
	}
	authority, path, more := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	if more {
		path = "/" + path
	}
	return scheme + "//" + authority + path
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
	if isPrintableASCII(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
