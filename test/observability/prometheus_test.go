package observability

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// A watch is a Prometheus with the rules and the relabelling of observability/, and all that it has alerted on.
type watch struct {
	*devstack.Prometheus

	file    string                              // of the targets
	targets map[string]target                   // by namespace; each has one pod
	seen    map[string]map[string]time.Duration // for how long alerts were pending or firing at most, by namespace
}

// A target is what Prometheus' discovery finds.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func startWatch(t *testing.T) *watch {
	t.Helper()
	is := is.New(t)
	w := &watch{
		file:    filepath.Join(t.TempDir(), "targets.json"),
		targets: make(map[string]target), seen: make(map[string]map[string]time.Duration),
	}
	is.NoErr(w.write())
	prometheus, err := devstack.StartPrometheus(t.Context(), devstack.PrometheusOptions{Config: configuration(t, w.file)})
	if errors.Is(err, devstack.ErrNoPrometheus) {
		t.Skip(err)
	}
	is.NoErr(err)
	t.Cleanup(func() { is.NoErr(prometheus.Close()) })
	w.Prometheus = prometheus
	return w
}

// add lets Prometheus find pods of the function, by namespaces of their own, as it would in a cluster, and waits until it has.
func (w *watch) add(t *testing.T, addresses map[string]string) {
	t.Helper()
	for namespace, address := range addresses {
		w.targets[namespace] = pod(t, namespace, address, "Running")
	}
	is.New(t).NoErr(w.write())
	for namespace := range addresses {
		w.eventually(t, 20*time.Second, func() bool { return w.value(t, `up{namespace=%q}`, namespace) == "1" })
	}
}

// pod is what discovery in a cluster says of one.
func pod(t *testing.T, namespace, address, phase string) target {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	is.New(t).NoErr(err)
	const meta = "__meta_kubernetes_pod_"
	return target{Targets: []string{address}, Labels: map[string]string{
		"__meta_kubernetes_namespace":               namespace,
		meta + "name":                               "coffeebuddy-00001",
		meta + "ip":                                 host,
		meta + "phase":                              phase,
		meta + "annotation_prometheus_io_scrape":    "true",
		meta + "annotation_prometheus_io_port":      port,
		meta + "annotation_prometheus_io_path":      "/metrics",
		meta + "label_app_kubernetes_io_name":       "coffeebuddy",
		meta + "label_serving_knative_dev_revision": "coffeebuddy-00001",
	}}
}

// remove lets a pod go, as scaling to zero does, and waits until Prometheus has seen it.
func (w *watch) remove(t *testing.T, namespace string) {
	t.Helper()
	delete(w.targets, namespace)
	is.New(t).NoErr(w.write())
	w.eventually(t, 20*time.Second, func() bool { return w.value(t, `up{namespace=%q}`, namespace) == "" })
}

// write replaces the file in one step.
func (w *watch) write() error {
	text, err := json.Marshal(slices.Collect(maps.Values(w.targets)))
	if err != nil {
		return err
	}
	if len(w.targets) == 0 {
		text = []byte("[]")
	}
	if err := os.WriteFile(w.file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(w.file+".new", w.file)
}

// look notes which alerts are pending or firing now. An alert is its name and what tells it from others of that name.
func (w *watch) look(t *testing.T) {
	t.Helper()
	is := is.New(t)
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels, Annotations map[string]string
				ActiveAt            time.Time
			}
		}
	}
	is.NoErr(w.get(t.Context(), "/api/v1/alerts", &answer))
	for _, alert := range answer.Data.Alerts {
		namespace, name := alert.Labels["namespace"], strings.TrimPrefix(alert.Labels["alertname"], "CoffeeBuddy")
		is.True(strings.HasPrefix(alert.Annotations["summary"], namespace)) // the template was filled in
		for _, label := range []string{"dependency", "reason", "outcome"} {
			if value := alert.Labels[label]; value != "" {
				name += " " + value
			}
		}
		if w.seen[namespace] == nil {
			w.seen[namespace] = make(map[string]time.Duration)
		}
		w.seen[namespace][name] = max(w.seen[namespace][name], time.Since(alert.ActiveAt))
	}
}

// has reports whether all of these alerts were seen in a namespace.
func (w *watch) has(namespace string, alerts []string) bool {
	return !slices.ContainsFunc(alerts, func(alert string) bool { return w.seen[namespace][alert] == 0 })
}

// lasting returns the alerts of a namespace that are more than one late answer of a busy machine.
func (w *watch) lasting(namespace string) (alerts []string) {
	for alert, active := range w.seen[namespace] {
		if active > 10*time.Second {
			alerts = append(alerts, alert)
		}
	}
	return alerts
}

// value returns what a query finds, if that is one series.
func (w *watch) value(t *testing.T, query string, args ...any) string {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any
			}
		}
	}
	is.New(t).NoErr(w.get(t.Context(), "/api/v1/query?query="+url.QueryEscape(fmt.Sprintf(query, args...)), &answer))
	if len(answer.Data.Result) != 1 {
		return ""
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}

func (w *watch) get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// eventually polls a condition, and looks at the alerts meanwhile.
func (w *watch) eventually(t *testing.T, within time.Duration, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); ; <-tick.C {
		w.look(t)
		if condition() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it did not come true within %s; alerts: %v", within, w.seen)
		}
	}
}
