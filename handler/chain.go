package handler

import (
	"errors"
	"net/http"
	"time"

	"coffeebuddy/events"
)

// timed counts, times and logs a request, whatever becomes of it. It is outside recovery, so
// that a panic is counted as the 500 that it becomes.
func (h *Handler) timed(next layer) layer {
	return func(resp *response, r *http.Request) {
		resp.began = time.Now()
		h.inFlight.Add(1)
		resp.Header()["X-Request-Id"] = []string{resp.RequestID}
		defer h.answered(resp, r)
		next(resp, r)
	}
}

// answered counts, times and logs a request once: when it returns, or earlier when it was
// answered in its receiver's place.
func (h *Handler) answered(w *response, r *http.Request) {
	if w.answered {
		return
	}
	w.answered = true
	h.inFlight.Add(-1)
	code := w.code
	if code == 0 {
		code = http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	route, method, took := h.metrics.routeOf(r.Pattern), methodOf(r.Method), time.Since(w.began)
	h.metrics.observe(route, method, code, took, &w.Correlation)
	h.log(r, w, code, route, method, took)
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
			answerOf(events.Verdict{Outcome: events.Failed}).sendError(w)
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
