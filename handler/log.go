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

// public returns a source without the user, the query and the fragment that it may have as a
// URL: secrets are there, and a log holds none.
func public(source string) string {
	if end := strings.IndexAny(source, "?#"); end >= 0 {
		source = source[:end]
	}
	if !strings.Contains(source, "@") || strings.HasPrefix(source, "mailto:") {
		return source
	}
	parts := strings.Split(source, "/")
	for i, part := range parts { // a user is where a host is: at the start, or after //
		if at := strings.LastIndexByte(part, '@'); at >= 0 && (i == 0 || i >= 2 && parts[i-1] == "") {
			scheme, _, found := strings.Cut(part[:at], ":")
			if i > 0 || !found {
				scheme = ""
			} else {
				scheme += ":"
			}
			parts[i] = scheme + part[at+1:]
		}
	}
	return strings.Join(parts, "/")
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

// unprintable looks nothing up for ASCII, which most of what is logged is.
func unprintable(r rune) bool { return (r < ' ' || r > '~') && !unicode.IsPrint(r) }
