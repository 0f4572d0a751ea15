package checks

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics holds the counters of a Readiness, written under its lock. Gauges are not stored: they
// are derived from the state on collection.
type metrics struct {
	checks      *prometheus.CounterVec
	failures    *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	transitions *prometheus.CounterVec

	ready, up, lastCheck, lastSuccess *prometheus.Desc
}

func newMetrics(dependencies []*dependency) metrics {
	m := metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffeebuddy_dependency_checks_total",
			Help: "Finished checks of a dependency.",
		}, []string{"dependency"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffeebuddy_dependency_check_failures_total",
			Help: "Failed checks of a dependency, by reason.",
		}, []string{"dependency", "reason"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "coffeebuddy_dependency_check_duration_seconds",
			Help:    "How long a check of a dependency took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},

			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"dependency"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffeebuddy_readiness_transitions_total",
			Help: "Changes of readiness, by the state it changed to.",
		}, []string{"to"}),

		ready: prometheus.NewDesc("coffeebuddy_ready",
			"Whether the function is ready (1) or not (0), as its readiness probe says.", nil, nil),
		up: prometheus.NewDesc("coffeebuddy_dependency_up",
			"Whether a dependency can serve (1) or not (0).", []string{"dependency"}, nil),
		lastCheck: prometheus.NewDesc("coffeebuddy_dependency_last_check_timestamp_seconds",
			"When the last check of a dependency ended, 0 before the first.", []string{"dependency"}, nil),
		lastSuccess: prometheus.NewDesc("coffeebuddy_dependency_last_success_timestamp_seconds",
			"When the last successful check of a dependency ended, 0 before the first.", []string{"dependency"}, nil),
	}
	m.transitions.WithLabelValues("ready")
	m.transitions.WithLabelValues("unready")
	for _, d := range dependencies {
		m.checks.WithLabelValues(d.name)
		m.durations.WithLabelValues(d.name)
		for _, reason := range Reasons() {
			m.failures.WithLabelValues(d.name, string(reason))
		}
	}
	return m
}

func (m metrics) transition(ready bool) {
	to := "unready"
	if ready {
		to = "ready"
	}
	m.transitions.WithLabelValues(to).Inc()
}

// checked counts a check that was just recorded in d.
func (m metrics) checked(d *dependency, took time.Duration) {
	m.checks.WithLabelValues(d.name).Inc()
	m.durations.WithLabelValues(d.name).Observe(took.Seconds())
	if d.reason != "" {
		m.failures.WithLabelValues(d.name, string(d.reason)).Inc()
	}
}

func (m metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{m.checks, m.failures, m.durations, m.transitions}
}

// Describe implements prometheus.Collector.
func (r *Readiness) Describe(descs chan<- *prometheus.Desc) {
	for _, c := range r.metrics.vectors() {
		c.Describe(descs)
	}
	for _, d := range []*prometheus.Desc{r.metrics.ready, r.metrics.up, r.metrics.lastCheck, r.metrics.lastSuccess} {
		descs <- d
	}
}

// Collect implements prometheus.Collector. It starts no check and counts no
// transition: collecting has no side effects.
func (r *Readiness) Collect(metrics chan<- prometheus.Metric) {
	for _, m := range r.gauges(time.Now()) {
		metrics <- m
	}
	for _, c := range r.metrics.vectors() {
		c.Collect(metrics)
	}
}

// gauges reads the state in one step, so that a slow reader of the channel does not block a probe.
func (r *Readiness) gauges(now time.Time) []prometheus.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
		return prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauges := []prometheus.Metric{gauge(r.metrics.ready, boolean(r.readyAt(now)))}
	for _, d := range r.dependencies {
		gauges = append(gauges,
			gauge(r.metrics.up, boolean(d.reasonAt(now) == ""), d.name),
			gauge(r.metrics.lastCheck, unixSeconds(d.checkedAt), d.name),
			gauge(r.metrics.lastSuccess, unixSeconds(d.succeeded), d.name))
	}
	return gauges
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// unixSeconds converts t to Prometheus's representation, and the zero time to 0.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}
