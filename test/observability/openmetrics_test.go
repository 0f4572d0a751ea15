package observability

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"coffeebuddy"

	"github.com/matryer/is"
)

// The parsers of Prometheus' Python client refuse what Prometheus itself lets pass, such as two families of one name.
func TestStrictParsersTakeTheMetrics(t *testing.T) {
	is := is.New(t)
	const python = "/usr/bin/python3" // the one that Debian's packages are for
	if exec.CommandContext(t.Context(), python, "-c", "import prometheus_client").Run() != nil {
		t.Skip("prometheus_client is not installed (Debian: python3-prometheus-client)")
	}
	t.Setenv("COFFEEBUDDY_SLACK_SECRET", "secret/coffeebuddy/slack#signing_secret")
	t.Setenv("K_SINK", "http://127.0.0.1:1")
	t.Setenv("COFFEEBUDDY_LEDGER", "postgres://127.0.0.1:1/coffeebuddy")
	t.Setenv("COFFEEBUDDY_LEDGER_SECRET", "secret/coffeebuddy/database")
	settings, err := coffeebuddy.Load()
	is.NoErr(err)
	function, err := coffeebuddy.NewFunction(settings, io.Discard)
	is.NoErr(err)
	sampled := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}"))
	sampled.Header.Set("Content-Type", "application/json")
	sampled.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	function.ServeHTTP(httptest.NewRecorder(), sampled) // for the parsers to meet an exemplar
	for _, row := range []struct{ accept, contentType, parser string }{
		{"text/plain;version=0.0.4", "text/plain; version=0.0.4", "prometheus_client.parser"},
		{"application/openmetrics-text;version=0.0.1", "application/openmetrics-text; version=0.0.1", "prometheus_client.openmetrics.parser"},
		{"application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0", "prometheus_client.openmetrics.parser"},
	} {
		t.Run(row.accept, func(t *testing.T) {
			is := is.New(t)
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
			request.Header.Set("Accept", row.accept)
			answer := httptest.NewRecorder()
			function.ServeHTTP(answer, request)
			is.Equal(answer.Code, http.StatusOK)
			is.True(strings.HasPrefix(answer.Header().Get("Content-Type"), row.contentType))
			parse := exec.CommandContext(t.Context(), python, "-c", "import sys; from "+row.parser+
				" import text_string_to_metric_families as parse; assert len(list(parse(sys.stdin.read()))) > 30")
			parse.Stdin = answer.Body
			if output, err := parse.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
		})
	}
}
