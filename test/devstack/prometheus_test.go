package devstack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

func TestPrometheusScrapesTheFunction(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	needBinaries(t)
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		is.Equal(r.URL.Path, "/metrics")
		fmt.Fprintln(w, "coffeebuddy_ready 1")
	}))
	defer function.Close()
	prometheus, err := devstack.StartPrometheus(t.Context(), devstack.PrometheusOptions{
		Target: strings.TrimPrefix(function.URL, "http://"), Progress: t.Output(),
	})
	if errors.Is(err, devstack.ErrNoPrometheus) {
		t.Skip(err)
	}
	is.NoErr(err)
	eventually(t, func() bool { return queried(t, prometheus, "coffeebuddy_ready") == "1" })
	is.Equal(queried(t, prometheus, "up"), "1")
	is.NoErr(prometheus.Close())
	is.True(!prometheus.Running())
}

func TestPrometheusLabelsPods(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	needBinaries(t)
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "coffeebuddy_ready 1") }))
	defer function.Close()
	target := strings.TrimPrefix(function.URL, "http://")
	prometheus, err := devstack.StartPrometheus(t.Context(), devstack.PrometheusOptions{Progress: t.Output(), Pods: []devstack.Pod{
		{Target: target, Labels: map[string]string{"pod": "a", "namespace": "coffeebuddy"}},
		{Target: target, Labels: map[string]string{"pod": "b"}},
	}})
	if errors.Is(err, devstack.ErrNoPrometheus) {
		t.Skip(err)
	}
	is.NoErr(err)
	eventually(t, func() bool { return queried(t, prometheus, "count(coffeebuddy_ready)") == "2" })
	is.Equal(queried(t, prometheus, `coffeebuddy_ready{pod="a", namespace="coffeebuddy"}`), "1")
	is.Equal(queried(t, prometheus, `coffeebuddy_ready{pod="b", namespace=""}`), "1")
	is.NoErr(prometheus.Close())
}

func TestPrometheusMayBeMissing(t *testing.T) {
	is := is.New(t)
	t.Setenv("PATH", t.TempDir())
	_, err := devstack.StartPrometheus(t.Context(), devstack.PrometheusOptions{})
	is.True(errors.Is(err, devstack.ErrNoPrometheus))
}

// queried returns the value of the one series that a query finds, or nothing when there is none yet.
func queried(t *testing.T, prometheus *devstack.Prometheus, query string) string {
	t.Helper()
	answer, err := http.Get(prometheus.URL + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if len(body.Data.Result) != 1 {
		return ""
	}
	return fmt.Sprint(body.Data.Result[0].Value[1])
}
