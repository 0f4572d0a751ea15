package handler

import (
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
)

// An eventName is what a log line says of an event.
type eventName struct{ id, source, eventType string }

func nameOf(e event.Event) eventName { return eventName{e.ID(), e.Source(), e.Type()} }

// log writes a request's line: the fields below and no others.
func (h *Handler) log(r *http.Request, w *response, code int, route *route, method string, took time.Duration) {
	if !route.log.Enabled(r.Context(), route.level) {
		return
	}
	if route.level >= slog.LevelInfo && isRefusal(w, code) && !h.refusals.first(refusal{route, code}) {
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
