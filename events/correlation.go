package events

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Correlation ties what is logged, replied and sent to a request and its trace.
type Correlation struct {
	RequestID   string
	Traceparent string // of the request or its event; valid, or ""
}

// attrs are the correlation's fields in a log line.
func (c *Correlation) attrs() []slog.Attr {
	attrs := []slog.Attr{slog.String("request_id", c.RequestID)}
	if id := c.TraceID(); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	return attrs
}

// TraceID returns the trace-id of the traceparent, "" if there is none.
func (c *Correlation) TraceID() string {
	if c.Traceparent == "" {
		return ""
	}
	return c.Traceparent[3:35]
}

// Sampled reports whether the trace is recorded: the flag sampled of the traceparent
// (W3C Trace Context, section 3.2.2.5.1).
func (c *Correlation) Sampled() bool {
	if c.Traceparent == "" {
		return false
	}
	switch c.Traceparent[len(c.Traceparent)-1] { // the last four flags, in lower case
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return true
	}
	return false
}

// correlationKey is the key of the *Correlation in a context.
type correlationKey struct{}

// CorrelationOf returns the correlation that a context carries, nil for none.
func CorrelationOf(ctx context.Context) *Correlation {
	c, _ := ctx.Value(correlationKey{}).(*Correlation)
	return c
}

// correlated adds a context's correlation to the lines that are logged with it.
type correlated struct{ slog.Handler }

func (h correlated) Handle(ctx context.Context, line slog.Record) error {
	if c := CorrelationOf(ctx); c != nil {
		line = line.Clone() // whose attributes others may share
		line.AddAttrs(c.attrs()...)
	}
	return h.Handler.Handle(ctx, line)
}

func (h correlated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return correlated{h.Handler.WithAttrs(attrs)}
}

func (h correlated) WithGroup(name string) slog.Handler {
	return correlated{h.Handler.WithGroup(name)}
}

// ValidTraceparent returns a traceparent (W3C Trace Context, section 3.2) in the form
// of version 00, "" for one that is malformed.
func ValidTraceparent(traceparent string) string {
	const length = len("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if len(traceparent) < length {
		return ""
	}
	known, more := traceparent[:length], traceparent[length:]
	if more != "" && (known[:2] == "00" || more[0] != '-') {
		return "" // only later versions may have further parts
	}
	if known[2] != '-' || known[35] != '-' || known[52] != '-' {
		return ""
	}
	version, trace, parent, flags := known[:2], known[3:35], known[36:52], known[53:]
	if !lowerHex(version) || version == "ff" || !lowerHex(trace) || !lowerHex(parent) || !lowerHex(flags) ||
		strings.Trim(trace, "0") == "" || strings.Trim(parent, "0") == "" {
		return ""
	}
	if version == "00" {
		return known
	}
	return "00" + known[2:]
}

func lowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// WithCorrelation returns a context that carries a correlation.
func WithCorrelation(ctx context.Context, c *Correlation) context.Context {
	return context.WithValue(ctx, correlationKey{}, c)
}

// Follow adopts the trace of an event whose request has none.
func (c *Correlation) Follow(e event.Event) {
	if c.Traceparent != "" {
		return
	}
	if traceparent, ok := e.Extensions()["traceparent"].(string); ok {
		c.Traceparent = ValidTraceparent(traceparent)
	}
}

// NewRequestID returns 26 letters and digits, 128 bits of chance.
func NewRequestID() string { return rand.Text() }
