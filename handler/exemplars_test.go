package handler_test

import (
	"strings"
	"testing"

	"coffeebuddy/events"

	"github.com/matryer/is"
)

// TestExemplars are on the durations of sampled traces that were POSTed, and nowhere else.
func TestExemplars(t *testing.T) {
	t.Parallel()
	const openMetrics, text = "application/openmetrics-text;version=1.0.0", "text/plain"
	for when, row := range map[string]struct {
		method, path, flags, accept string
		exemplars                   int
	}{
		"a sampled trace":                       {"POST", "/", "01", openMetrics, 1},
		"one that has another flag, too":        {"POST", "/", "03", openMetrics, 1},
		"one with another flag alone":           {"POST", "/", "02", openMetrics, 0},
		"a trace that is not sampled":           {"POST", "/", "00", openMetrics, 0},
		"no trace":                              {"POST", "/", "", openMetrics, 0},
		"text, which has no exemplars":          {"POST", "/", "01", text, 0},
		"a liveness probe":                      {"GET", "/health/live", "01", openMetrics, 0},
		"a readiness probe":                     {"GET", "/health/ready", "01", openMetrics, 0},
		"a route that takes no POST":            {"POST", "/health/live", "01", openMetrics, 0},
		"a route that there is not":             {"POST", "/nowhere", "01", openMetrics, 0},
		"another method on the route of events": {"PUT", "/", "01", openMetrics, 0},
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			f := newFunction(t)
			header := []string{"Content-Type", "application/json"}
			if row.flags != "" {
				header = append(header, "Traceparent", strings.TrimSuffix(traceparent, "01")+row.flags)
			}
			f.ask(row.method, row.path, `{"message":"hello"}`, header...)
			body := f.ask("GET", "/metrics", "", "Accept", row.accept).Body.String()
			is.True(strings.Contains(body, `coffeebuddy_http_request_duration_seconds_bucket{`))
			is.Equal(strings.Count(body, ` # {trace_id="`+traceID+`"} `), row.exemplars)
			is.Equal(strings.Count(body, ` # {`), row.exemplars) // none of another kind
		})
	}
}

// TestAnEventsOwnTrace is the exemplar where its request has none.
func TestAnEventsOwnTrace(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	f.ask("POST", "/", `{"specversion":"1.0","id":"1","source":"/a","type":"boson.fn","traceparent":"`+traceparent+`"}`,
		"Content-Type", "application/cloudevents+json")
	body := f.ask("GET", "/metrics", "", "Accept", "application/openmetrics-text;version=1.0.0").Body.String()
	is.Equal(strings.Count(body, ` # {trace_id="`+traceID+`"} `), 1)
}

// TestNotSampledCostsNothing more than having no trace.
func TestNotSampledCostsNothing(t *testing.T) {
	is := is.New(t)
	unsampled := events.Correlation{Traceparent: strings.TrimSuffix(traceparent, "01") + "00"}
	is.Equal(testing.AllocsPerRun(100, func() { is.True(!unsampled.Sampled()) }), 0.0)
}
