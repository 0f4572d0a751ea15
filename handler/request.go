package handler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"
)

// A response is a ResponseWriter that remembers what its request's log line needs.
type response struct {
	http.ResponseWriter

	correlation

	began time.Time
	code  int          // 0 until a status was written
	body  *requestBody // of the request, nil if it has none
	event eventName    // of an event that was understood

	header   [1]string   // of X-Request-Id
	readable requestBody // what body points to
}

// An eventName is what a log line says of an event.
type eventName struct{ id, source, eventType string }

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
func lingering(w http.ResponseWriter, r *http.Request, next func(*response, *http.Request)) {
	resp := &response{ResponseWriter: w, correlation: correlation{requestID: requestID(r.Header)}}
	if values := r.Header["Traceparent"]; len(values) == 1 {
		resp.traceparent = validTraceparent(values[0])
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
		small:      r.ContentLength > 0 && r.ContentLength <= 64<<10 && first(r.Header, "Expect") == "",
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

// timed counts, times and logs a request, whatever becomes of it.
func (h *Handler) timed(resp *response, r *http.Request) {
	resp.began = time.Now()
	h.inFlight.Add(1)
	resp.header[0] = resp.requestID
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
	h.recovered(resp, r)
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
		slog.String("request_id", w.requestID))
	if id := w.traceID(); id != "" {
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
func (h *Handler) recovered(w *response, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p)
		}
		h.panicked(contextOf(r.Context(), &w.correlation), p)
		if w.code != 0 {
			panic(http.ErrAbortHandler)
		}
		writeError(w, answer{status: http.StatusInternalServerError, outcome: failed})
	}()
	h.dispatch(w, r)
}

// panicked counts and logs a panic, with its stack. The panic's own text is logged
// only where it is the runtime's: any other may hold what was being handled.
func (h *Handler) panicked(ctx context.Context, p any) {
	h.metrics.panics.Inc()
	what := fmt.Sprintf("%T", p)
	if e, ok := p.(runtime.Error); ok {
		what = e.Error()
	}
	h.logger.LogAttrs(ctx, slog.LevelError, "a handler panicked",
		slog.String("panic", what), slog.String("stack", string(debug.Stack())))
}

// requestID returns the caller's X-Request-Id if it is a plain short word, else a
// new one.
func requestID(header http.Header) string {
	if ids := header["X-Request-Id"]; len(ids) == 1 && plainID(ids[0]) {
		return ids[0]
	}
	return newRequestID()
}

// newRequestID returns 26 letters and digits, 128 bits of chance.
func newRequestID() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var id [26]byte
	for half := range 2 {
		bits := rand.Uint64() //nolint:gosec // it is no secret, and each request needs one
		for i := range 13 {
			id[13*half+i] = alphabet[bits%32]
			bits /= 32
		}
	}
	return string(id[:])
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
