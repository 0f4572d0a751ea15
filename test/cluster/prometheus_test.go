package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffeebuddy/test/devstack"

	"github.com/matryer/is"
)

// scrape runs a Prometheus with the configuration in observability/, but for how it finds the cluster's API.
func scrape(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	dir := t.TempDir()
	text, err := os.ReadFile("../../observability/prometheus.yml")
	is.NoErr(err)
	rules, err := filepath.Abs("../../observability/rules.yml")
	is.NoErr(err)
	kubeconfig := os.Getenv("KUBECONFIG")
	if kubeconfig == "" {
		kubeconfig = filepath.Join(os.Getenv("HOME"), ".kube", "config")
	}
	config := "global: {scrape_interval: 1s}\n" + strings.ReplaceAll(string(text), "      - role: ", "      - kubeconfig_file: "+kubeconfig+"\n        role: ")
	config = strings.Replace(config, "  - rules.yml\n", "  - "+rules+"\n", 1)
	// The second job as it would be without its first rule, to see what that is for.
	drop := "      - source_labels: [__meta_kubernetes_service_label_networking_internal_knative_dev_serviceType]\n        action: drop\n        regex: .+\n"
	_, services, found := strings.Cut(config, "  - job_name: services\n")
	is.True(found && strings.Contains(services, drop))
	config += "\n  - job_name: services-without-the-rule\n" + strings.Replace(services, drop, "", 1)
	is.NoErr(os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))

	executable := filepath.Join(dir, "prometheus")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "remove_all_sd enable_kubernetes_sd", "-o", executable,
		"github.com/prometheus/prometheus/cmd/prometheus")
	build.Dir = "prometheus"
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("build prometheus: %v: %s", err, lastLines(string(out)))
	}
	address := freeAddress(t)
	p, err := devstack.StartProcess(ctx, devstack.Command{
		Name: "prometheus", Path: executable, Env: []string{"HOME=" + dir}, Dir: dir, Log: filepath.Join(dir, "log"),
		Args: []string{
			"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"),
			"--web.listen-address=" + address,
		},
	})
	is.NoErr(err)
	defer func() { is.NoErr(p.Close()) }()

	api := newCaller("http://"+address, "", 5*time.Second)
	up := func(job string) []series {
		return query(t, api, fmt.Sprintf(`up{job=%q} and on(instance) coffeebuddy_build_info or up{job=%q}`, job, job))
	}
	eventually(t, time.Minute, "the pod is scraped", func() error {
		if all := up("pods"); len(all) != 1 || all[0].value() != "1" {
			return fmt.Errorf("%v", all)
		}
		return nil
	})
	eventually(t, time.Minute, "the job without the rule has found the Services", func() error {
		if len(up("services-without-the-rule")) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	is.Equal(len(up("pods")), 1)     // exactly once
	is.Equal(len(up("services")), 0) // and not again by its Services
	only := up("pods")[0]
	is.Equal(only.Metric["instance"], onlyPod(t).Status.PodIP+":8080")
	is.Equal(only.Metric["revision"], get[service](t, "ksvc", "coffeebuddy").Status.LatestReadyRevisionName)
	ready := query(t, api, "coffeebuddy_ready")
	is.Equal(ready[0].value(), "1")

	trap := up("services-without-the-rule")
	down := 0
	for _, t := range trap {
		if t.value() == "0" {
			down++
		}
	}
	s.figures.add("targets by annotations: of the pod; of its Services; those without the rule", "%d; %d; %d, %d of them down",
		len(up("pods")), len(up("services")), len(trap), down)
}

type series struct {
	Metric map[string]string
	Value  [2]any
}

func (s series) value() string { return fmt.Sprint(s.Value[1]) }

// query returns what Prometheus answers; nothing while it starts.
func query(t *testing.T, api *caller, expression string) []series {
	t.Helper()
	is := is.New(t)
	is.Helper()
	a, err := api.get(t.Context(), "/api/v1/query?query="+strings.NewReplacer(" ", "%20", "{", "%7B", "}", "%7D", `"`, "%22").Replace(expression))
	if err != nil || a.code != http.StatusOK {
		return nil
	}
	var reply struct{ Data struct{ Result []series } }
	is.NoErr(json.Unmarshal([]byte(a.body), &reply))
	return reply.Data.Result
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
