package handler_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/logging"

	"github.com/cloudevents/sdk-go/v2/event"
)

// nowhere is a ResponseWriter that costs nothing and can do what net/http's can, so
// that the handler is measured.
type nowhere struct {
	header http.Header
	code   int
}

func (n *nowhere) Header() http.Header              { return n.header }
func (n *nowhere) Write(p []byte) (int, error)      { return len(p), nil }
func (n *nowhere) WriteHeader(code int)             { n.code = code }
func (n *nowhere) EnableFullDuplex() error          { return nil }
func (n *nowhere) FlushError() error                { return nil }
func (n *nowhere) SetReadDeadline(time.Time) error  { return nil }
func (n *nowhere) SetWriteDeadline(time.Time) error { return nil }

// A rereadable body costs nothing to read again.
type rereadable struct{ strings.Reader }

func (*rereadable) Close() error { return nil }

// BenchmarkHandler is a whole request but for its connection: route, request id,
// metrics, and the log line that users have.
func BenchmarkHandler(b *testing.B) {
	f := newFunction(b, func(c *config) {
		c.Log = slog.New(logging.NewHandler(io.Discard, slog.LevelInfo)).With("app", "coffeebuddy", "environment", "prod")
		c.EventsInFlight = 10000
	})
	accept := func(context.Context, event.Event) (*event.Event, error) { return nil, nil }
	if err := f.On("coffee.ordered", accept); err != nil {
		b.Fatal(err)
	}
	if err := f.On("coffee.paid", accept, events.Deduplicate(time.Hour)); err != nil {
		b.Fatal(err)
	}
	data := `"` + strings.Repeat("x", 98) + `"`
	binary := func(eventType string) map[string][]string {
		return map[string][]string{
			"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/counter"}, "Ce-Type": {eventType},
			"Content-Type": {"application/json"},
		}
	}
	structured := func(eventType string) string {
		return `{"specversion":"1.0","id":"1","source":"/counter","type":"` + eventType + `","datacontenttype":"application/json","data":` + data + `}`
	}
	contentType := func(value string) map[string][]string { return map[string][]string{"Content-Type": {value}} }
	for _, bench := range []struct {
		name, method, path string
		header             map[string][]string
		body               string
		code               int
	}{
		{"live", "GET", "/health/live", nil, "", 200},
		{"ready", "GET", "/health/ready", nil, "", 200},
		{"metrics", "GET", "/metrics", nil, "", 200},
		{"binary", "POST", "/", binary("coffee.ordered"), data, 204},
		{"structured", "POST", "/", contentType("application/cloudevents+json"), structured("coffee.ordered"), 204},
		{"duplicate", "POST", "/", binary("coffee.paid"), data, 204},
		{"binary echoed", "POST", "/", binary("boson.fn"), data, 200},
		{"structured echoed", "POST", "/", contentType("application/cloudevents+json"), structured("boson.fn"), 200},
		{"plain JSON", "POST", "/", contentType("application/json"), `{"message":"Hello World"}`, 200},
		{"malformed", "POST", "/", contentType("application/cloudevents+json"), structured(""), 400},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			r, err := http.NewRequest(bench.method, bench.path, http.NoBody)
			if err != nil {
				b.Fatal(err)
			}
			maps.Copy(r.Header, bench.header)
			r.ContentLength = int64(len(bench.body))
			w, body := &nowhere{header: make(http.Header)}, new(rereadable)
			for b.Loop() {
				if bench.body != "" {
					body.Reset(bench.body)
					r.Body = body
				}
				clear(w.header)
				f.ServeHTTP(w, r)
			}
			if w.code != bench.code {
				b.Fatal(w.code)
			}
		})
	}
}
