package handler

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A response is a ResponseWriter that remembers what its request's log line needs.
type response struct {
	http.ResponseWriter

	events.Correlation

	began time.Time
	code  int          // 0 until a status was written
	body  *requestBody // of the request, nil if it has none
	event eventName    // of an event that was understood

	header   [1]string   // of X-Request-Id
	readable requestBody // what body points to
}

// An eventName is what a log line says of an event.
type eventName struct{ id, source, eventType string }

func nameOf(e event.Event) eventName { return eventName{e.ID(), e.Source(), e.Type()} }

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(code int) {
	if w.code == 0 && code >= 200 {
		w.code = code
		if w.body != nil && !w.body.finished() {
			w.Header().Set("Connection", "close") // what is left of the body is not the next request
		}
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// A requestBody knows whether it has been read to its end.
type requestBody struct {
	io.ReadCloser

	connection http.ResponseWriter
	small      bool // announced, and sent without being asked for
	ended      bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// finished reports whether the body has been read to its end, or can be at once: a
// small one has mostly come with its headers, and costs no connection then.
func (b *requestBody) finished() bool {
	if !b.ended && b.small &&
		http.NewResponseController(b.connection).SetReadDeadline(time.Now().Add(5*time.Millisecond)) == nil {
		_, _ = io.Copy(io.Discard, b)
	}
	return b.ended
}

// lingering answers a request whose body is not read at once, and reads on for a
// while. net/http would hold the answer back until the body is there; and a
// connection closed on a sender who is still sending loses it the answer.
func lingering(w http.ResponseWriter, r *http.Request, next layer) {
	resp := &response{ResponseWriter: w, Correlation: events.Correlation{RequestID: requestID(r.Header)}}
	if values := r.Header["Traceparent"]; len(values) == 1 {
		resp.Traceparent = events.ValidTraceparent(values[0])
	}
	if r.ContentLength == 0 {
		next(resp, r)
		return
	}
	connection := http.NewResponseController(w)
	resp.body = &resp.readable
	resp.readable = requestBody{
		ReadCloser: r.Body,
		connection: w,
		small:      r.ContentLength > 0 && r.ContentLength <= 64<<10 && r.Header.Get("Expect") == "",
	}
	r.Body = resp.body
	duplex := connection.EnableFullDuplex() == nil // false in a test without a connection
	next(resp, r)
	if !duplex || resp.body.ended {
		return
	}
	if resp.code == 0 {
		resp.WriteHeader(http.StatusOK) // as net/http would, but with what goes with an unread body
	}
	if connection.Flush() != nil || connection.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, lingerBytes)
}

// How long, and how much, is read on after an answer, for the sender to have it.
const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// timed counts, times and logs a request, whatever becomes of it. It is outside recovery, so
// that a panic is counted as the 500 that it becomes.
func (h *Handler) timed(next layer) layer {
	return func(resp *response, r *http.Request) {
		resp.began = time.Now()
		h.inFlight.Add(1)
		resp.header[0] = resp.RequestID
		resp.Header()["X-Request-Id"] = resp.header[:]
		defer func() {
			h.inFlight.Add(-1)
			code := resp.code
			if code == 0 {
				code = http.StatusOK // what net/http sends for a handler that wrote nothing
			}
			route, method, took := h.metrics.routeOf(r.Pattern), methodOf(r.Method), time.Since(resp.began)
			h.metrics.observe(route, method, code, took)
			h.log(r, resp, code, route, method, took)
		}()
		next(resp, r)
	}
}

// log writes a request's line: the fields below and no others.
func (h *Handler) log(r *http.Request, w *response, code int, route *route, method string, took time.Duration) {
	if !route.log.Enabled(r.Context(), route.level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs,
		slog.String("method", method),
		slog.Int("code", code),
		slog.Float64("duration_seconds", took.Seconds()),
		slog.String("request_id", w.RequestID))
	if id := w.TraceID(); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if e := w.event; e.id != "" {
		attrs = append(attrs,
			slog.String("event_id", printable(e.id)),
			slog.String("event_source", printable(public(e.source))),
			slog.String("event_type", printable(e.eventType)))
	}
	// A record of its own, since nobody asks for the line of code that every request
	// is logged at.
	line := slog.NewRecord(w.began.Add(took), route.level, "request", 0)
	line.AddAttrs(attrs...)
	_ = route.log.Handle(r.Context(), line) // a log that fails has nowhere to say so
}

// recovered turns a panic into a 500, or cuts the connection where a status has
// been sent already, so that no caller takes half an answer for a whole one.
func (h *Handler) recovered(next layer) layer {
	return func(w *response, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			h.events.Panicked(events.WithCorrelation(r.Context(), &w.Correlation), p)
			if w.code != 0 {
				panic(http.ErrAbortHandler)
			}
			answerOf(events.Verdict{Outcome: events.Failed}).send(w)
		}()
		next(w, r)
	}
}

// requestID returns the caller's X-Request-Id if it is a plain short word, else a
// new one.
func requestID(header http.Header) string {
	if ids := header["X-Request-Id"]; len(ids) == 1 && plainID(ids[0]) {
		return ids[0]
	}
	return events.NewRequestID()
}

// plainID reports whether id is 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-".
func plainID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
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
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return -1
		}
		return r
	}, s)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
