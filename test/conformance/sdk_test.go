package conformance

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/client"
	ce "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/prometheus/client_golang/prometheus"

	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/logging"
)

// nowhere is a ResponseWriter that costs nothing and can do what net/http's can.
type nowhere struct {
	header http.Header
	code   int
}

func (n *nowhere) Header() http.Header              { return n.header }
func (n *nowhere) Write(p []byte) (int, error)      { n.WriteHeader(200); return len(p), nil }
func (n *nowhere) EnableFullDuplex() error          { return nil }
func (n *nowhere) FlushError() error                { return nil }
func (n *nowhere) SetReadDeadline(time.Time) error  { return nil }
func (n *nowhere) SetWriteDeadline(time.Time) error { return nil }

func (n *nowhere) WriteHeader(code int) {
	if n.code == 0 {
		n.code = code
	}
}

// A rereadable body costs nothing to read again.
type rereadable struct{ strings.Reader }

func (*rereadable) Close() error { return nil }

// BenchmarkReceive is one event of a 100-byte body to a receiver that does nothing, by
// this handler, by the SDK's receiver, and by the way that the SDK has for one's own
// goroutine. The handler alone routes, bounds, times, counts and logs; "quiet" is
// without its log line.
func BenchmarkReceive(b *testing.B) {
	sdk, err := sdkReceiver(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	contenders := []struct {
		name string
		to   http.Handler
	}{
		{"handler", function(b, slog.LevelInfo)},
		{"handler quiet", function(b, slog.LevelError)},
		{"SDK receiver", sdk},
		{"SDK inline", http.HandlerFunc(inline)},
	}
	data := `"` + strings.Repeat("x", 98) + `"`
	for _, mode := range []struct {
		name   string
		header map[string][]string
		body   string
	}{
		{"binary", map[string][]string{
			"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/counter"}, "Ce-Type": {"coffee.ordered"},
			"Content-Type": {"application/json"},
		}, data},
		{
			"structured",
			map[string][]string{"Content-Type": {"application/cloudevents+json"}},
			`{"specversion":"1.0","id":"1","source":"/counter","type":"coffee.ordered","datacontenttype":"application/json","data":` + data + `}`,
		},
	} {
		for _, c := range contenders {
			b.Run(mode.name+"/"+c.name, func(b *testing.B) { receive(b, c.to, mode.header, mode.body) })
		}
	}
}

func receive(b *testing.B, to http.Handler, header map[string][]string, text string) {
	b.ReportAllocs()
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	maps.Copy(r.Header, header)
	r.ContentLength = int64(len(text))
	w, body := &nowhere{header: make(http.Header)}, new(rereadable)
	began := processorTime(b)
	for b.Loop() {
		body.Reset(text)
		r.Body, w.code = body, 0
		clear(w.header)
		to.ServeHTTP(w, r)
	}
	b.ReportMetric(float64((processorTime(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
	if w.code != 200 && w.code != 204 {
		b.Fatal(w.code)
	}
}

// processorTime is what the process has used so far, on all processors: what other
// programs use of them does not count.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// function is this project's handler as users run it.
func function(b *testing.B, level slog.Level) http.Handler {
	log := slog.New(logging.NewHandler(io.Discard, level)).With("app", "coffeebuddy", "environment", "prod")
	registry := prometheus.NewRegistry()
	engine, err := events.New(events.Config{Registry: registry, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	h, err := handler.New(handler.Config{Environment: "prod", Events: engine, Echo: true, Registry: registry, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	if err := engine.On("coffee.ordered", func(context.Context, ce.Event) (*ce.Event, error) { return nil, nil }); err != nil {
		b.Fatal(err)
	}
	return h
}

// sdkReceiver is what function runtimes are built on.
func sdkReceiver(ctx context.Context) (http.Handler, error) {
	protocol, err := cehttp.New()
	if err != nil {
		return nil, err
	}
	return client.NewHTTPReceiveHandler(ctx, protocol, func(ce.Event) {})
}

// inline decodes and validates with the SDK in the request's own goroutine, and does
// nothing else.
func inline(w http.ResponseWriter, r *http.Request) {
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil || e.Validate() != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
