// Package handler is everything HTTP of the function, behind one http.Handler:
// health, metrics and events, with timing, recovery, request ids and logs.
//
// It knows nothing of Vault, Ory or the environment: readiness comes in as a
// func, settings as plain values. A feature registers a [Receiver] for a type of
// event with [Handler.On]; what the receiver returns decides the status, and so
// whether the sender tries again (see [Permanent] and [RetryAfter]). It goes on after
// its reply with [Handler.Go]. A feature that gets its events in another way adds a
// route with [Handler.Mount] and hands them over with [Handler.Dispatch].
package handler

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
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

// Config is what a Handler is made of. Every field but the last two is needed.
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

	// EventsScope is the OAuth2 scope that the bearer token of POST / must have, and
	// Authorize says whether it has. Without a scope anybody may send events.
	EventsScope string
	Authorize   func(ctx context.Context, token string) Authorization
}

// A Handler is the function. Register receivers before it serves.
type Handler struct {
	config    Config
	logger    *slog.Logger // config.Log with the correlation of its lines' contexts
	source    string       // of replies that name none
	mux       *http.ServeMux
	metrics   *metrics
	receivers map[string]*registration // by type

	slots    chan struct{} // holds one for each event in flight
	inFlight atomic.Int64  // requests
	claims   claims
	tasks    tasks
	draining atomic.Bool

	closing sync.Mutex
	closed  int // places that Wait has taken
}

// New returns a Handler with its routes and its two built-in receivers: the type
// boson.fn, which `func invoke -f cloudevent` sends, and plain JSON.
func New(config Config) (*Handler, error) {
	h := &Handler{
		config:    config,
		logger:    slog.New(correlated{config.Log.Handler()}),
		source:    "//coffeebuddy/" + url.PathEscape(config.App),
		mux:       http.NewServeMux(),
		receivers: make(map[string]*registration),
		slots:     make(chan struct{}, config.EventsInFlight),
		claims:    claims{byKey: make(map[claimKey]*claim)},
		tasks:     tasks{running: make(map[*task]bool)},
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

// routes is the surface besides what is mounted. HEAD goes where GET goes; the mux
// answers other methods with 405 and other paths with 404.
func (h *Handler) routes() {
	h.metrics.routes[""] = newRoute(unmatched, slog.LevelInfo, h.config.Log.Handler())
	h.route(http.MethodGet, LivePath, handleLive(), slog.LevelDebug)
	h.route(http.MethodGet, ReadyPath, handleReady(h.config.Ready), slog.LevelDebug)
	h.route(http.MethodGet, h.config.MetricsPath, handleMetrics(h.config.Registry, h.config.Log), slog.LevelDebug)
	h.route(http.MethodPost, EventsPath, http.HandlerFunc(h.handleEvent), slog.LevelInfo)
}

// route registers a handler for exactly one path, its series, and the level of its
// requests' log lines.
func (h *Handler) route(method, path string, next http.Handler, level slog.Level) {
	pattern := method + " " + path
	if path == EventsPath {
		pattern += "{$}" // else it would match every path
	}
	h.mux.Handle(pattern, next)
	h.metrics.addRoute(pattern, method, newRoute(path, level, h.config.Log.Handler()))
}

// Mount adds a route for a feature: a pattern of [http.ServeMux] with a method and a
// path, such as "POST /slack/commands". The path may have wildcards of one segment,
// and no slash at its end: it matches no path below itself. Its requests are timed,
// recovered, counted by the path pattern, and logged like any other; their context
// carries their id and trace, for [Handler.Dispatch] and [Handler.Go]; the event that
// is dispatched first is in their log line. Bounding what it reads is the feature's
// business, and so is taking a place with [Handler.Enter] before it reads much. Call it
// before the handler serves.
func (h *Handler) Mount(pattern string, next http.Handler) (err error) {
	method, path, _ := strings.Cut(pattern, " ")
	switch {
	case next == nil:
		return fmt.Errorf("mount %q: the handler is nil", pattern)
	case methodOf(method) != method || !strings.HasPrefix(path, "/"):
		return fmt.Errorf("mount %q: it is not a method and a path", pattern)
	case strings.HasSuffix(path, "/"), strings.HasSuffix(path, "{$}"), strings.Contains(path, "...}"), unclean(path):
		return fmt.Errorf("mount %q: it is not exactly one path", pattern)
	}
	defer func() {
		if wrong := recover(); wrong != nil { // ServeMux panics at what it does not take
			err = fmt.Errorf("mount %q: %v", pattern, wrong)
		}
	}()
	h.route(method, path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, name := w.(*response), new(atomic.Pointer[eventName])
		defer func() {
			if dispatched := name.Load(); dispatched != nil {
				resp.event = *dispatched
			}
		}()
		ctx := context.WithValue(contextOf(r.Context(), &resp.correlation), eventNameKey{}, name)
		next.ServeHTTP(w, r.WithContext(ctx))
	}), slog.LevelInfo)
	return nil
}

// Log returns the logger for features. A line that is logged with the context of a
// receiver, a task or a mounted request has its request_id and trace_id.
func (h *Handler) Log() *slog.Logger { return h.logger }

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

// A Milestone is a moment of a cold start.
type Milestone string

// The milestones, in their order.
const (
	Listening  Milestone = "listening"
	Ready      Milestone = "ready"
	FirstEvent Milestone = "first_event"
)

// Reached records that the function has reached a milestone, for the metrics and,
// once the first event is answered, for one line in the log. The first time counts.
func (h *Handler) Reached(m Milestone) {
	if !h.metrics.reached(m, time.Since(h.config.Started)) || m != FirstEvent {
		return
	}
	h.logger.LogAttrs(context.Background(), slog.LevelInfo, "cold start",
		slog.Float64("listening_seconds", h.metrics.after(Listening)),
		slog.Float64("ready_seconds", h.metrics.after(Ready)),
		slog.Float64("first_event_seconds", h.metrics.after(FirstEvent)))
}
