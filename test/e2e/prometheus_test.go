package e2e

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

func TestPrometheus(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := start(t, p.environment()...)
	prometheus, err := devstack.StartPrometheus(t.Context(), devstack.PrometheusOptions{Target: strings.TrimPrefix(f.url, "http://")})
	if errors.Is(err, devstack.ErrNoPrometheus) {
		t.Skip(err)
	}
	is.NoErr(err)
	t.Cleanup(func() { closed(t, prometheus.Close) })

	const scraped = 20 * time.Second // the first scrape is 5 s after a start, the others every 2 s
	shows := func(want map[string]string) func() bool {
		return func() bool {
			for query, value := range want {
				if queried(t, prometheus, query) != value {
					return false
				}
			}
			return true
		}
	}
	eventually(t, scraped, shows(map[string]string{
		"up": "1", "coffeebuddy_ready": "0", "sum(coffeebuddy_dependency_checks_total)": "0", // a scrape asks no dependency
	}))
	f.becomes(t, healthy(), soon)
	eventually(t, scraped, shows(map[string]string{
		"up": "1", "coffeebuddy_ready": "1", `coffeebuddy_dependency_up{dependency="vault"}`: "1", `coffeebuddy_dependency_up{dependency="ory"}`: "1",
		`coffeebuddy_readiness_transitions_total{to="ready"}`: "1", "count(coffeebuddy_build_info)": "1",
	}))
	is.NoErr(p.vault.Seal(t.Context()))
	f.becomes(t, state{vault: "sealed", ory: "ok"}, soon)
	eventually(t, scraped, shows(map[string]string{
		"up": "1", "coffeebuddy_ready": "0", `coffeebuddy_dependency_up{dependency="vault"}`: "0", `coffeebuddy_dependency_up{dependency="ory"}`: "1",
		`coffeebuddy_dependency_check_failures_total{dependency="vault",reason="sealed"} > bool 0`: "1",
	}))
}

// queried returns the value of the one series that a query finds, or nothing when there is none yet.
func queried(t *testing.T, prometheus *devstack.Prometheus, query string) string {
	t.Helper()
	a, err := get(t.Context(), http.DefaultClient, prometheus.URL+"/api/v1/query?query="+url.QueryEscape(query))
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Status string `json:"status"`
		Data   struct {
			Result []struct {
				Value [2]any `json:"value"` // when, and what as a string
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Status != "success" {
		t.Fatalf("%s: %d %s", query, a.status, a.body)
	}
	if len(body.Data.Result) != 1 {
		return ""
	}
	value, _ := body.Data.Result[0].Value[1].(string)
	return value
}

func TestPromtoolHasNothingToSay(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: it comes with prometheus)")
	}
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := start(t, p.environment()...)
	check := func() {
		t.Helper()
		command := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		command.Stdin = strings.NewReader(f.get(t.Context(), t, "/metrics").body)
		output, err := command.CombinedOutput()
		is.NoErr(err)
		is.Equal(string(output), "")
	}
	check() // before anything was counted
	f.becomes(t, healthy(), soon)
	is.NoErr(p.vault.Seal(t.Context()))
	f.becomes(t, state{vault: "sealed", ory: "ok"}, soon)
	check()
}
