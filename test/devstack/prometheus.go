package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// PrometheusOptions say what a Prometheus scrapes.
type PrometheusOptions struct {
	Port     int       // the loopback port to listen on, or the next free one after it; 0: any free one
	Target   string    // host:port of the function, whose /metrics is scraped every 2 s; may be empty where there are Pods
	Pods     []Pod     // what else is scraped so
	Config   string    // a whole configuration in place of one that scrapes these; its files by absolute paths
	Progress io.Writer // where a taken port is told about; nil: nowhere
}

// A Pod is scraped like a target, and its series get the labels that a cluster's scrape configuration would give them.
type Pod struct {
	Target string            // host:port
	Labels map[string]string // such as namespace, pod and revision
}

// Prometheus is a running Prometheus server.
type Prometheus struct {
	*Process

	URL string // without a path
}

// ErrNoPrometheus is what StartPrometheus fails with where there is no prometheus on the PATH. It is not built from source:
// Linux distributions have it.
var ErrNoPrometheus = errors.New("prometheus is not installed (Debian: apt-get install --no-install-recommends prometheus)")

// StartPrometheus starts a Prometheus with a folder of its own. It is closed when ctx ends.
func StartPrometheus(ctx context.Context, options PrometheusOptions) (*Prometheus, error) {
	return inState(ctx, startPrometheus, options)
}

// startPrometheus starts a Prometheus in dir, which is removed with it; on failure its caller has to.
func startPrometheus(ctx context.Context, dir *state, options PrometheusOptions) (*Prometheus, error) {
	executable, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, ErrNoPrometheus
	}
	port, err := dir.takePort(ctx, "Prometheus", defaultHost, options.Port, orDiscard(options.Progress))
	if err != nil {
		return nil, err
	}
	config := dir.file("prometheus.yml")
	if err := os.WriteFile(config, []byte(cmp.Or(options.Config, scrapeConfig(options))), 0o600); err != nil {
		return nil, fmt.Errorf("configure prometheus: %w", err)
	}
	address := net.JoinHostPort(defaultHost, strconv.Itoa(port))
	p := &Prometheus{URL: "http://" + address}
	client := newHTTPClient(&http.Transport{})
	p.Process, err = StartProcess(ctx, Command{
		Name: "prometheus", Path: executable, Env: plainEnvironment(), Dir: dir.path, Log: dir.file("prometheus.log"),
		Args: []string{
			"--config.file=" + config,
			"--storage.tsdb.path=" + dir.file("prometheus"),
			"--web.listen-address=" + address,
		},
		cleanup: dir.remove,
		keepLog: true,
		Ready: func(ctx context.Context) error {
			return call(ctx, client, http.MethodGet, p.URL+"/-/ready", nil, nil, nil)
		},
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func scrapeConfig(options PrometheusOptions) string {
	var config strings.Builder
	config.WriteString(`global:
  scrape_interval: 2s
  scrape_timeout: 1s
scrape_configs:
  - job_name: coffeebuddy
    static_configs:
`)
	pods := options.Pods
	if options.Target != "" {
		// The alerting rules find the function's targets by this label.
		own := map[string]string{"app_kubernetes_io_name": "coffeebuddy"}
		pods = append([]Pod{{Target: options.Target, Labels: own}}, pods...)
	}
	for _, p := range pods {
		fmt.Fprintf(&config, "      - targets: [%q]\n        labels: {", p.Target)
		for name, value := range p.Labels {
			fmt.Fprintf(&config, "%s: %q, ", name, value)
		}
		config.WriteString("}\n")
	}
	return config.String()
}
