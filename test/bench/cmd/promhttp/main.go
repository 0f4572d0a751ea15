// Command promhttp serves with promhttp, and nothing around it, as many series as the function exposes: Go's and the process's own
// collectors as the function registers them, and copies of its other collectors. It imports nothing of the function, so that its size,
// start and memory are those of promhttp.
package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"coffeebuddy/test/bench/internal/served"
)

// The bounds of the function's histograms.
func requestSeconds() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 3, 5, 10}
}

func checkSeconds() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

func main() {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector( // as the function's
			collectors.WithGoCollectorMemStatsMetricsDisabled(),
			collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(
				`^/(gc/heap/allocs:bytes|gc/heap/allocs:objects|memory/classes/heap/(objects|unused):bytes|memory/classes/total:bytes)$`)}),
		),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	function := newFunction(registry)
	mux := http.NewServeMux()
	for _, route := range []string{"GET /health/live", "GET /health/ready", "POST /"} {
		mux.Handle(route, function.timed(route))
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	served.Run(mux)
}

// A function is the function's collectors, copied.
type function struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

func newFunction(registry *prometheus.Registry) function {
	counters := func(name string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		registry.MustRegister(c)
		return c
	}
	gauges := func(name string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		registry.MustRegister(g)
		return g
	}
	histograms := func(name string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, labels)
		registry.MustRegister(h)
		return h
	}
	gauges("coffeebuddy_build_info", "app", "version", "commit", "goversion").WithLabelValues("coffeebuddy", "unknown", "unknown", "go").Set(1)
	for _, name := range []string{
		"coffeebuddy_connections", "coffeebuddy_events_in_flight", "coffeebuddy_http_requests_in_flight", "coffeebuddy_ready",
		"coffeebuddy_vault_token_expiry_timestamp_seconds", "promhttp_metric_handler_requests_in_flight",
	} {
		gauges(name).WithLabelValues()
	}
	for _, name := range []string{"coffeebuddy_connections_shed_total", "coffeebuddy_http_panics_total", "coffeebuddy_log_lines_dropped_total"} {
		counters(name).WithLabelValues()
	}
	for _, of := range []struct {
		name, label string
		values      []string
	}{
		{"coffeebuddy_background_tasks_total", "outcome", []string{"cut_off", "done", "failed"}},
		{"coffeebuddy_readiness_transitions_total", "to", []string{"ready", "unready"}},
		{"promhttp_metric_handler_errors_total", "cause", []string{"encoding", "gathering"}},
		{"promhttp_metric_handler_requests_total", "code", []string{"200", "500", "503"}},
		{"coffeebuddy_events_total", "outcome", []string{
			"abandoned", "accepted", "duplicate", "failed", "malformed", "mismatch", "overloaded", "rejected", "retry", "timeout",
			"unauthorized", "unknown_type",
		}},
	} {
		vector := counters(of.name, of.label)
		for _, value := range of.values {
			vector.WithLabelValues(value)
		}
	}
	start := gauges("coffeebuddy_start_seconds", "until")
	for _, until := range []string{"first_event", "listening", "ready"} {
		start.WithLabelValues(until).Set(0.0123)
	}
	slack := counters("coffeebuddy_slack_requests_total", "kind", "outcome")
	for _, kind := range []string{"command", "event", "interaction", "unknown"} {
		for _, outcome := range []string{"accepted", "acknowledged_for", "duplicate", "rejected", "unavailable", "unsigned"} {
			slack.WithLabelValues(kind, outcome)
		}
	}
	up, checks := gauges("coffeebuddy_dependency_up", "dependency"), counters("coffeebuddy_dependency_checks_total", "dependency")
	failures := counters("coffeebuddy_dependency_check_failures_total", "dependency", "reason")
	took := histograms("coffeebuddy_dependency_check_duration_seconds", checkSeconds(), "dependency")
	last := gauges("coffeebuddy_dependency_last_check_timestamp_seconds", "dependency")
	success := gauges("coffeebuddy_dependency_last_success_timestamp_seconds", "dependency")
	for _, dependency := range []string{"ory", "vault"} {
		up.WithLabelValues(dependency).Set(1)
		checks.WithLabelValues(dependency).Inc()
		took.WithLabelValues(dependency).Observe(0.00123)
		last.WithLabelValues(dependency).SetToCurrentTime()
		success.WithLabelValues(dependency).SetToCurrentTime()
		for _, reason := range []string{
			"bad_response", "denied", "dns", "inactive", "misconfigured", "pending", "refused", "sealed", "stale", "timeout", "tls",
			"unavailable", "uninitialized",
		} {
			failures.WithLabelValues(dependency, reason)
		}
	}
	f := function{
		requests:  counters("coffeebuddy_http_requests_total", "method", "route", "code"),
		durations: histograms("coffeebuddy_http_request_duration_seconds", requestSeconds(), "method", "route"),
	}
	f.requests.WithLabelValues("GET", "/metrics", "200")
	f.durations.WithLabelValues("GET", "/metrics")
	f.requests.WithLabelValues("POST", "/", "204")
	return f
}

// help is as long as most help texts of the function are.
const help = "Requests that got a response, by method, path pattern and status."

// timed answers 200, with the data of an event if there is any, and counts and times that, so that the histograms have something to show.
func (f function) timed(pattern string) http.Handler {
	method, route, _ := strings.Cut(pattern, " ")
	requests, durations := f.requests.WithLabelValues(method, route, "200"), f.durations.WithLabelValues(method, route)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		w.Header().Set("Content-Type", "application/json")
		if body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20)); err == nil {
			_, _ = w.Write(body)
		}
		durations.Observe(time.Since(began).Seconds())
		requests.Inc()
	})
}
