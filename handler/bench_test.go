package handler_test

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"

	"coffeebuddy/handler"
)

// nowhere is a ResponseWriter that costs nothing, so that the handler is measured.
type nowhere struct {
	header http.Header
	code   int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(code int)        { n.code = code }

func BenchmarkHandler(b *testing.B) {
	f := newFunction(b, func(c *handler.Config) {
		c.Log = slog.New(slog.NewJSONHandler(io.Discard, nil))
		c.EventsInFlight = 10000
	})
	event := map[string][]string{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"boson.fn"}, "Content-Type": {"application/json"},
	}
	data := `"` + strings.Repeat("x", 98) + `"`
	for _, bench := range []struct {
		name, method, path string
		header             map[string][]string
		body               string
	}{
		{"live", "GET", "/health/live", nil, ""},
		{"ready", "GET", "/health/ready", nil, ""},
		{"metrics", "GET", "/metrics", nil, ""},
		{"event binary", "POST", "/", event, data},
		{"event structured", "POST", "/", map[string][]string{"Content-Type": {"application/cloudevents+json"}}, `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","data":` + data + `}`},
		{"plain JSON", "POST", "/", map[string][]string{"Content-Type": {"application/json"}}, `{"message":"Hello World"}`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			r, err := http.NewRequest(bench.method, bench.path, http.NoBody)
			if err != nil {
				b.Fatal(err)
			}
			maps.Copy(r.Header, bench.header)
			r.ContentLength = int64(len(bench.body))
			w := &nowhere{header: make(http.Header)}
			for b.Loop() {
				if bench.body != "" {
					r.Body = io.NopCloser(strings.NewReader(bench.body))
				}
				clear(w.header)
				f.ServeHTTP(w, r)
			}
			if w.code != http.StatusOK {
				b.Fatal(w.code)
			}
		})
	}
}
