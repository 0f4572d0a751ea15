// Package handler is everything HTTP of the function, behind one http.Handler:
// health, metrics and events, with timing, recovery, request ids and logs.
//
// It knows nothing of Vault, Ory or the environment: readiness comes in as a
// func, settings as plain values. A feature registers a [Receiver] for a type of
// event with [Handler.On]; what the receiver returns decides the status, and so
// whether the sender tries again (see [Permanent] and [RetryAfter]).
package handler

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The paths that every function has, besides the path of its metrics.
const (
	LivePath   = "/health/live"
	ReadyPath  = "/health/ready"
	EventsPath = "/"
)

// Readiness is the answer to one readiness probe.
type Readiness struct {
	Ready bool   // 200, else 503
	Retry bool   // send Retry-After with a 503
	JSON  []byte // the body, a line of JSON; not changed here
}

// Config is what a Handler is made of. Every field is needed.
type Config struct {
	App         string // the function's name, in what it replies
	Environment string // dev, test or prod
	Version     string // of the build, in what it replies

	Started     time.Time                       // of the process
	Ready       func(context.Context) Readiness // answers within 80 ms, from memory
	MetricsPath string                          // plain, absolute, and none of the other paths
	Registry    *prometheus.Registry            // what the metrics path shows; the handler adds its own
	Log         *slog.Logger

	EventsInFlight int           // events at a time; one more is told to come back
	EventTimeout   time.Duration // deadline of one receiver
}

// A Handler is the function. Register receivers before it serves.
type Handler struct {
	config    Config
	mux       *http.ServeMux
	metrics   *metrics
	receivers map[string]Receiver

	slots    chan struct{} // holds one for each event in flight
	inFlight atomic.Int64  // requests
	draining atomic.Bool
}

// New returns a Handler with its routes and its two built-in receivers: the type
// boson.fn, which `func invoke -f cloudevent` sends, and plain JSON.
func New(config Config) (*Handler, error) {
	h := &Handler{
		config:    config,
		mux:       http.NewServeMux(),
		receivers: make(map[string]Receiver),
		slots:     make(chan struct{}, config.EventsInFlight),
	}
	var err error
	h.metrics, err = newMetrics(config.Registry,
		func() float64 { return float64(h.inFlight.Load()) },
		func() float64 { return float64(len(h.slots)) })
	if err != nil {
		return nil, fmt.Errorf("register the handler's metrics: %w", err)
	}
	if err := h.On(echoType, h.echo); err != nil {
		return nil, err
	}
	h.routes()
	return h, nil
}

// routes is the whole surface. HEAD goes where GET goes; the mux answers other
// methods with 405 and other paths with 404.
func (h *Handler) routes() {
	h.route(http.MethodGet, LivePath, handleLive())
	h.route(http.MethodGet, ReadyPath, handleReady(h.config.Ready))
	h.route(http.MethodGet, h.config.MetricsPath, handleMetrics(h.config.Registry, h.config.Log))
	h.route(http.MethodPost, EventsPath, http.HandlerFunc(h.handleEvent))
}

// route registers a handler for exactly one path, and its series.
func (h *Handler) route(method, path string, next http.Handler) {
	pattern := method + " " + path
	if path == EventsPath {
		pattern += "{$}" // else it would match every path
	}
	h.mux.Handle(pattern, next)
	h.metrics.addRoute(pattern, method, path)
}

// ServeHTTP answers one request. The order matters: timing is outside recovery, so
// that a panic is counted as the 500 it becomes, and inside lingering, which is
// after the answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	lingering(w, r, h.timed) // then recovered, then dispatch
}

// dispatch finds the route. ServeMux would redirect an unclean path to the clean
// one, and call the asterisk of OPTIONS a bad request; here both are unknown paths
// like any other.
func (h *Handler) dispatch(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "" && r.Method != http.MethodConnect {
		r.URL.Path = "/" // POST http://host, which is the same (RFC 9110, section 4.2.3)
	}
	if !strings.HasPrefix(r.URL.Path, "/") || unclean(r.URL.Path) {
		http.NotFound(w, r)
		return
	}
	if h.draining.Load() {
		// The connection's next request could find it closed: say so before.
		w.Header().Set("Connection", "close")
	}
	h.mux.ServeHTTP(w, r)
}

// unclean reports whether a path has empty segments, "." or "..".
func unclean(p string) bool {
	return strings.Contains(p, "//") || strings.Contains(p, "/.") && path.Clean(p) != strings.TrimSuffix(p, "/")
}

// Drain makes every answer from now on ask for the connection to be closed, so
// that callers have moved on when the listener closes.
func (h *Handler) Drain() { h.draining.Store(true) }

// Wait returns when no event is in flight any more, those included whose receiver
// outlives its request, and takes no further one. When ctx has ended and there are
// events or other requests in flight, the error says how many were cut off. Call it
// when no more requests come.
func (h *Handler) Wait(ctx context.Context) error {
	for taken := range cap(h.slots) {
		select {
		case h.slots <- struct{}{}:
			continue
		default:
		}
		select {
		case h.slots <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("%d events were cut off: %w", len(h.slots)-taken, ctx.Err())
		}
	}
	if n := h.inFlight.Load(); n > 0 && ctx.Err() != nil {
		return fmt.Errorf("%d requests were cut off: %w", n, ctx.Err())
	}
	return nil
}

// A Milestone is a moment of a cold start.
type Milestone string

// The milestones, in their order.
const (
	Listening  Milestone = "listening"
	Ready      Milestone = "ready"
	FirstEvent Milestone = "first_event"
)

// Reached records, for the metrics, that the function has reached a milestone.
// The first time counts.
func (h *Handler) Reached(m Milestone) {
	h.metrics.reached(m, time.Since(h.config.Started))
}
