// Package handler is the function's HTTP, and nothing else: routes, health, metrics, and
// events at POST /, with timing, recovery, request ids and logs around them.
//
// It knows nothing of Vault, Ory or the environment: readiness comes in as a func, settings
// as plain values. Who receives an event, and what becomes of it, is the business of the
// package events; here its outcome becomes a status. A feature that is called in another way
// adds a route with [Handler.Mount].
package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
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

// Config is what a Handler is made of. Events is needed; the zero value of every other field
// is its default.
type Config struct {
	App         string // the function's name, in what it echoes. "" stands for coffeebuddy
	Environment string // dev, test or prod, in what it echoes; dev admits events of com.slack.* types. "" stands for dev
	Version     string // of the build, in what it echoes. "" stands for unknown

	Events *events.Engine // receives what comes to POST /

	Started     time.Time                       // of the process. Zero stands for now
	Ready       func(context.Context) Readiness // answers within 80 ms, from memory. Nil: always ready
	MetricsPath string                          // plain, absolute, and none of the other paths. "" stands for /metrics
	Registry    *prometheus.Registry            // what the metrics path shows; the handler adds its own. Nil: one of its own
	Log         *slog.Logger                    // nil discards

	// MemoryLimit is what the process may use, in bytes; bodies are bounded by a part of it. 0
	// stands for Go's own, which GOMEMLIMIT sets.
	MemoryLimit int64

	// EventsScope is the OAuth2 scope that the bearer token of POST / must have, and
	// Authorize says whether it has, and whose token it is, "" if that is not known: events of
	// different principals are no duplicates of each other. "": anybody may send events.
	EventsScope string
	Authorize   func(ctx context.Context, token string) (Authorization, string)

	// Admit says whether an event of a com.slack.* type may be received at POST /, where no
	// token vouches for it: nil admits it, and any error is treated like one of its receiver.
	// Nil, where Slack is not configured: none is admitted, or in dev any.
	Admit func(context.Context, event.Event) error

	// Echo adds the built-in receiver, which answers with what came: events of the type
	// boson.fn, which `func invoke -f cloudevent` sends, and plain JSON.
	Echo bool
}

// A Handler is the function. Mount routes before it serves.
type Handler struct {
	config  Config
	events  *events.Engine
	serve   layer
	mux     *http.ServeMux
	metrics *metrics
	bodies  bodies

	refusals refusals
	decoding chan struct{} // holds one for each large body that is decoded

	inFlight atomic.Int64 // requests
	draining atomic.Bool
}

// New returns a Handler with its routes.
func New(config Config) (*Handler, error) {
	config, err := withDefaults(config)
	if err != nil {
		return nil, fmt.Errorf("make the handler: %w", err)
	}
	h := &Handler{config: config, events: config.Events, mux: http.NewServeMux(), bodies: newBodies(config.MemoryLimit), decoding: make(chan struct{}, decodesAtOnce)}
	h.metrics, err = newMetrics(config.Registry, func() float64 { return float64(h.inFlight.Load()) })
	if err != nil {
		return nil, fmt.Errorf("register the handler's metrics: %w", err)
	}
	h.events.OnFirstAccepted(func() { h.Reached(FirstEvent) })
	if config.Echo {
		echo, err := newEcho(config)
		if err != nil {
			return nil, fmt.Errorf("make the echo: %w", err)
		}
		if err := h.events.On(echoType, echo.receive); err != nil {
			return nil, err
		}
	}
	h.routes()
	h.serve = h.timed(h.recovered(h.route))
	return h, nil
}

// withDefaults returns a Config without zero values, or what is wrong with it.
func withDefaults(c Config) (Config, error) {
	if c.App == "" {
		c.App = "coffeebuddy"
	}
	if c.Environment == "" {
		c.Environment = "dev"
	}
	if c.Version == "" {
		c.Version = "unknown"
	}
	if c.Started.IsZero() {
		c.Started = time.Now()
	}
	if c.Ready == nil {
		c.Ready = func(context.Context) Readiness {
			return Readiness{Ready: true, JSON: []byte(`{"status":"ready","components":{}}` + "\n")}
		}
	}
	if c.MetricsPath == "" {
		c.MetricsPath = "/metrics"
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MemoryLimit == 0 {
		c.MemoryLimit = debug.SetMemoryLimit(-1) // which sets nothing
	}
	switch {
	case c.Events == nil:
		return c, errors.New("the field Events is nil")
	case !isRoute(c.MetricsPath) || strings.ContainsAny(c.MetricsPath, "{ \t%?#") || c.MetricsPath == LivePath || c.MetricsPath == ReadyPath:
		return c, fmt.Errorf("the metrics path %q is not a plain path of its own", c.MetricsPath)
	case c.EventsScope != "" && c.Authorize == nil:
		return c, errors.New("there is an EventsScope, and Authorize is nil")
	}
	return c, nil
}

// routes is the surface besides what is mounted. HEAD goes where GET goes; the mux
// answers other methods with 405 and other paths with 404.
func (h *Handler) routes() {
	h.metrics.routes[""] = newRoute(unmatched, slog.LevelInfo, h.config.Log.Handler())
	h.add(http.MethodGet, LivePath, handleLive(), slog.LevelDebug)
	h.add(http.MethodGet, ReadyPath, handleReady(h.config.Ready), slog.LevelDebug)
	h.add(http.MethodGet, h.config.MetricsPath, handleMetrics(h.config.Registry, h.config.Log), slog.LevelDebug)
	h.add(http.MethodPost, EventsPath, http.HandlerFunc(h.handleEvent), slog.LevelInfo)
}

// add registers a handler for exactly one path, its series, and the level of its
// requests' log lines.
func (h *Handler) add(method, path string, next http.Handler, level slog.Level) {
	pattern := method + " " + path
	if path == EventsPath {
		pattern += "{$}" // else it would match every path
	}
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP((*response)(w.(*unrouted)), r)
	})
	h.metrics.addRoute(pattern, method, newRoute(path, level, h.config.Log.Handler()))
}

// Mount adds a route for a feature: a pattern of [http.ServeMux] with a method and a
// path, such as "POST /slack/commands". The path may have wildcards of one segment,
// and no slash at its end: it matches no path below itself. Its requests are timed,
// recovered, counted by the path pattern, and logged like any other; their context
// carries their id and trace, for [events.Events.Dispatch] and [events.Events.Go]; the
// event that is dispatched first is in their log line. Bounding what it reads is the
// feature's business. Call it before the handler serves.
func (h *Handler) Mount(pattern string, next http.Handler) (err error) {
	method, path, _ := strings.Cut(pattern, " ")
	switch {
	case next == nil:
		return fmt.Errorf("mount %q: the handler is nil", pattern)
	case methodOf(method) != method || !strings.HasPrefix(path, "/"):
		return fmt.Errorf("mount %q: it is not a method and a path", pattern)
	case !isRoute(path):
		return fmt.Errorf("mount %q: it is not exactly one path", pattern)
	}
	defer func() {
		if wrong := recover(); wrong != nil { // ServeMux panics at what it does not take
			err = fmt.Errorf("mount %q: %v", pattern, wrong)
		}
	}()
	h.add(method, path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp := w.(*response)
		ctx, dispatched := events.Watch(events.WithCorrelation(r.Context(), &resp.Correlation))
		defer func() {
			if e := dispatched(); e != nil {
				resp.event = nameOf(*e)
			}
		}()
		next.ServeHTTP(w, r.WithContext(ctx))
	}), slog.LevelInfo)
	return nil
}

// isRoute reports whether a path, which may have wildcards, matches nothing below itself.
func isRoute(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasSuffix(path, "/") && !strings.HasSuffix(path, "{$}") &&
		!strings.Contains(path, "...}") && !unclean(path)
}

// A layer answers a request, by itself or by the layer within.
type layer func(*response, *http.Request)

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { lingering(w, r, h.serve) }

// route is the innermost layer: it finds the route. ServeMux would redirect an unclean path
// to the clean one, and call the asterisk of OPTIONS a bad request; here both are unknown
// paths like any other.
func (h *Handler) route(w *response, r *http.Request) {
	if r.URL.Path == "" && r.Method != http.MethodConnect {
		r.URL.Path = "/" // POST http://host, which is the same (RFC 9110, section 4.2.3)
	}
	if !strings.HasPrefix(r.URL.Path, "/") || unclean(r.URL.Path) {
		http.NotFound((*unrouted)(w), r)
		return
	}
	if h.draining.Load() {
		// The connection's next request could find it closed: say so before.
		w.Header().Set("Connection", "close")
	}
	h.mux.ServeHTTP((*unrouted)(w), r)
}

// unclean reports whether a path has empty segments, "." or "..".
func unclean(p string) bool {
	return strings.Contains(p, "//") || strings.Contains(p, "/.") && path.Clean(p) != strings.TrimSuffix(p, "/")
}

// Refused counts a response that net/http sent by itself to what never became a request: a
// malformed or outsized header. See connections.Config.
func (h *Handler) Refused(status int) {
	h.metrics.requests.WithLabelValues(methodOf(""), unmatched, strconv.Itoa(status)).Inc()
}

// Drain makes every answer from now on ask for the connection to be closed, so
// that callers have moved on when the listener closes.
func (h *Handler) Drain() { h.draining.Store(true) }

// Wait is [events.Engine.Wait], whose error says how many other requests are in flight, too. It
// logs the refusals that were only counted so far.
func (h *Handler) Wait(ctx context.Context) error {
	err := h.events.Wait(ctx)
	h.refusals.endAll()
	n := h.inFlight.Load()
	cut, isCut := errors.AsType[*events.CutOff](err)
	switch {
	case n == 0 || ctx.Err() == nil || isCut && cut.Events > 0: // which are requests
		return err
	case isCut:
		return fmt.Errorf("%d requests were cut off, %w", n, err)
	}
	return fmt.Errorf("%d requests were cut off: %w", n, ctx.Err())
}

// A Milestone is a moment of a cold start.
type Milestone string

// The milestones, in their order.
const (
	Listening  Milestone = "listening"
	Ready      Milestone = "ready"
	FirstEvent Milestone = "first_event"
)

// coldStart is how long after the function is ready the first event may be answered
// to count as one that waited for the start. Knative forwards a waiting event within
// a second, and a receiver may take its time. An event that comes later met a process
// that was idle.
const coldStart = 10 * time.Second

// Reached records that the function has reached a milestone, for the metrics and,
// once the first event is answered, for one line in the log if that event waited for
// the start. The first time counts.
func (h *Handler) Reached(m Milestone) {
	if !h.metrics.reached(m, time.Since(h.config.Started)) || m != FirstEvent {
		return
	}
	listening, ready, event := h.metrics.after(Listening), h.metrics.after(Ready), h.metrics.after(FirstEvent)
	if event-max(listening, ready) > coldStart.Seconds() {
		return
	}
	h.config.Log.LogAttrs(context.Background(), slog.LevelInfo, "cold start",
		slog.Float64("listening_seconds", listening),
		slog.Float64("ready_seconds", ready),
		slog.Float64("first_event_seconds", event))
}
