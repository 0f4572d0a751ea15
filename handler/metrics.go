package handler

import (
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"coffeebuddy/events"

	"github.com/prometheus/client_golang/prometheus"
)

// unmatched is the route of what matched none, a 405 included.
const unmatched = "unmatched"

// metrics are the handler's own. No label takes a value that a caller can choose.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec

	routes     map[string]*route // by the mux's pattern
	milestones map[Milestone]*milestone
}

// A milestone is when it was reached, from the start of the process.
type milestone struct {
	gauge prometheus.Gauge
	after atomic.Int64 // nanoseconds, 0 until then
}

// A route has the series of its own method, and of success, at hand, so that the common request
// looks nothing up.
type route struct {
	path      string
	method    string
	ok        prometheus.Counter // 200
	noContent prometheus.Counter // 204, nil but for events
	duration  prometheus.Observer
	level     slog.Level   // of its log lines
	log       slog.Handler // which knows the route already
}

func newMetrics(registry *prometheus.Registry, requestsInFlight func() float64) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffeebuddy_http_requests_total",
			Help: "Requests that got a response, by method, path pattern and status.",
		}, []string{"method", "route", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "coffeebuddy_http_request_duration_seconds",
			Help: "Time until the response was written.",
			// 0.1 is Knative's timeout of a probe, 3 is Slack's of a request.
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 3, 5, 10},

			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
			NativeHistogramMaxExemplars:     -1, // those of the buckets are enough, and need no lock
		}, []string{"method", "route"}),
		routes:     make(map[string]*route),
		milestones: make(map[Milestone]*milestone),
	}
	start := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "coffeebuddy_start_seconds",
		Help: "Time from the start of the process until it listened, was ready, and had responded to its first event; 0 until then.",
	}, []string{"until"})
	for _, u := range []Milestone{Listening, Ready, FirstEvent} {
		m.milestones[u] = &milestone{gauge: start.WithLabelValues(string(u))}
	}
	for _, c := range []prometheus.Collector{
		m.requests, m.durations, start,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "coffeebuddy_http_requests_in_flight",
			Help: "Requests in flight.",
		}, requestsInFlight),
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// newRoute returns a route without series, which is what "unmatched" is: no method is
// its own.
func newRoute(path string, level slog.Level, log slog.Handler) *route {
	return &route{path: path, level: level, log: log.WithAttrs([]slog.Attr{slog.String("route", path)})}
}

// addRoute adds a route and makes its series exist, at 0.
func (m *metrics) addRoute(pattern, method string, r *route) {
	r.method = method
	r.ok = m.requests.WithLabelValues(method, r.path, strconv.Itoa(http.StatusOK))
	r.duration = m.durations.WithLabelValues(method, r.path)
	if r.path == EventsPath {
		r.noContent = m.requests.WithLabelValues(method, r.path, strconv.Itoa(http.StatusNoContent))
	}
	m.routes[pattern] = r
}

// observe counts one request, and how long it took if its client waited for the response. The
// duration of a POST whose trace is sampled has the trace's id as its exemplar.
func (m *metrics) observe(r *route, method string, code int, took time.Duration, c *events.Correlation) {
	switch {
	case code == clientLeft:
	case method == r.method && method == http.MethodPost && c.Sampled():
		r.duration.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": c.TraceID()})
	case method == r.method:
		r.duration.Observe(took.Seconds())
	default:
		m.durations.WithLabelValues(method, r.path).Observe(took.Seconds())
	}
	switch {
	case method == r.method && code == http.StatusOK:
		r.ok.Inc()
	case method == r.method && code == http.StatusNoContent && r.noContent != nil:
		r.noContent.Inc()
	default:
		m.requests.WithLabelValues(method, r.path, strconv.Itoa(code)).Inc()
	}
}

// routeOf returns the route that the mux chose, by its pattern, which is empty where it
// chose none.
func (m *metrics) routeOf(pattern string) *route {
	if r, ok := m.routes[pattern]; ok {
		return r
	}
	return m.routes[""]
}

// reached sets a milestone's gauge, and reports whether this was the first time.
func (m *metrics) reached(which Milestone, after time.Duration) bool {
	milestone := m.milestones[which]
	if milestone.after.Load() != 0 || !milestone.after.CompareAndSwap(0, max(1, int64(after))) {
		return false
	}
	milestone.gauge.Set(after.Seconds())
	return true
}

// after returns when a milestone was reached, in seconds from the start of the
// process; 0 if it was not.
func (m *metrics) after(which Milestone) float64 {
	return time.Duration(m.milestones[which].after.Load()).Seconds()
}

// methodOf returns a method as a label: a standard one, or "unknown".
func methodOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "unknown"
}
