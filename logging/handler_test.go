package logging_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"testing"
	"time"

	"coffeebuddy/logging"

	"github.com/matryer/is"
)

// both returns two loggers that are to write the same, and what they have written.
func both() (ours, theirs *slog.Logger, wrote [2]*bytes.Buffer) {
	wrote = [2]*bytes.Buffer{new(bytes.Buffer), new(bytes.Buffer)}
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	return slog.New(logging.NewHandler(wrote[0], slog.LevelInfo)), slog.New(slog.NewJSONHandler(wrote[1], options)), wrote
}

// TestLinesAreSlogsOwn, whichever of the two ways they take.
func TestLinesAreSlogsOwn(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	for when, attrs := range map[string][]slog.Attr{
		"nothing":               nil,
		"a request":             {slog.String("method", "POST"), slog.Int("code", 204), slog.Float64("duration_seconds", 0.000123), slog.String("request_id", "r-1")},
		"numbers":               {slog.Int64("a", math.MinInt64), slog.Uint64("b", math.MaxUint64), slog.Bool("c", true), slog.Float64("d", -0.5)},
		"floats":                {slog.Float64("a", 0), slog.Float64("b", 1e-6), slog.Float64("c", 1e20), slog.Float64("d", 100)},
		"minus zero":            {slog.Float64("a", math.Copysign(0, -1))},
		"small floats":          {slog.Float64("a", 1e-7)},
		"large floats":          {slog.Float64("a", 1e21)},
		"no numbers":            {slog.Float64("a", math.NaN()), slog.Float64("b", math.Inf(1))},
		"text to be escaped":    {slog.String("a", "\"\\\n\x00\x7f<é>\u2028\xff")},
		"a key to be escaped":   {slog.String("a\"", "b")},
		"no key":                {slog.String("", "b")},
		"nothing at all":        {{}},
		"an error":              {slog.Any("a", errors.New("canary"))},
		"a group":               {slog.Group("a", slog.Int("b", 1))},
		"times":                 {slog.Time("a", at), slog.Duration("b", time.Second)},
		"what says for itself":  {slog.Any("a", slog.LevelWarn)},
		"more than fit in line": {slog.Int("a", 1), slog.Int("b", 2), slog.Int("c", 3), slog.Int("d", 4), slog.Int("e", 5), slog.Int("f", 6), slog.Int("g", 7)},
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			ours, theirs, wrote := both()
			for _, with := range []func(*slog.Logger) *slog.Logger{
				func(l *slog.Logger) *slog.Logger { return l },
				func(l *slog.Logger) *slog.Logger { return l.With("app", "coffeebuddy").With("environment", "prod") },
				func(l *slog.Logger) *slog.Logger { return l.With("app", "kaffee küche") },
				func(l *slog.Logger) *slog.Logger { return l.WithGroup("g").With("x", 1) },
				func(l *slog.Logger) *slog.Logger { return l.WithGroup("") },
			} {
				for _, message := range []string{"request", "a \"message\"", ""} {
					for _, when := range []time.Time{at, {}} {
						for _, level := range []slog.Level{slog.LevelInfo, slog.LevelError, slog.LevelWarn + 1} {
							line := slog.NewRecord(when, level, message, 0)
							line.AddAttrs(attrs...)
							is := is.New(t)
							is.NoErr(with(ours).Handler().Handle(t.Context(), line))
							is.NoErr(with(theirs).Handler().Handle(t.Context(), line))
							is.Equal(wrote[0].String(), wrote[1].String())
							wrote[0].Reset()
							wrote[1].Reset()
						}
					}
				}
			}
		})
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ours, _, wrote := both()
	ours.Debug("nobody asked")
	is.Equal(wrote[0].Len(), 0)
	is.True(!ours.Enabled(t.Context(), slog.LevelDebug))
}

// FuzzLine compares a line of anything at all with slog's own.
func FuzzLine(f *testing.F) {
	f.Add("request", "method", "POST", 0.1, int64(204))
	f.Add("\"", "a\\", "\u2028\xff<", 1e-9, int64(-1))
	f.Fuzz(func(t *testing.T, message, key, text string, number float64, whole int64) {
		ours, theirs, wrote := both()
		line := slog.NewRecord(time.Unix(1, 1), slog.LevelInfo, message, 0)
		line.AddAttrs(slog.String(key, text), slog.Float64("number", number), slog.Int64("whole", whole))
		for _, l := range []*slog.Logger{ours, theirs} {
			if err := l.With(key, number).Handler().Handle(context.Background(), line); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(wrote[0].Bytes(), wrote[1].Bytes()) {
			t.Errorf("%s, want %s", wrote[0], wrote[1])
		}
	})
}

func BenchmarkLine(b *testing.B) {
	for name, handler := range map[string]slog.Handler{
		"ours": logging.NewHandler(io.Discard, slog.LevelInfo), "slog": slog.NewJSONHandler(io.Discard, nil),
	} {
		handler = handler.WithAttrs([]slog.Attr{slog.String("app", "coffeebuddy"), slog.String("environment", "prod"), slog.String("route", "/")})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				line := slog.NewRecord(time.Now(), slog.LevelInfo, "request", 0)
				line.AddAttrs(slog.String("method", "POST"), slog.Int("code", 204), slog.Float64("duration_seconds", 0.000123),
					slog.String("request_id", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), slog.String("event_id", "1"),
					slog.String("event_source", "/counter"), slog.String("event_type", "coffee.ordered"))
				_ = handler.Handle(b.Context(), line)
			}
		})
	}
}
