package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	port, err := devstack.FreePort(ctx)
	is.NoErr(err)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
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
	up := func(job string) ([]series, error) {
		return query(ctx, api, fmt.Sprintf(`up{job=%q} and on(instance) coffeebuddy_build_info or up{job=%q}`, job, job))
	}
	instance, revision := onlyPod(t).Status.PodIP+":8080", latestRevision(t)
	var ofPod, ofServices, trap []series
	// One try must find all of it: on a busy machine a scrape may miss its timeout of 1 s, and the series of its target are stale then.
	eventually(t, 2*time.Minute, "the pod is scraped exactly once, and Services by the job without the rule alone", func() error {
		var ready []series
		var errs [4]error
		ofPod, errs[0] = up("pods")
		ofServices, errs[1] = up("services")
		trap, errs[2] = up("services-without-the-rule")
		ready, errs[3] = query(ctx, api, `coffeebuddy_ready{job="pods"}`)
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		switch {
		case len(ofPod) != 1 || ofPod[0].value() != "1":
			return fmt.Errorf("the pod: %v", ofPod)
		case ofPod[0].Metric["instance"] != instance || ofPod[0].Metric["revision"] != revision:
			return fmt.Errorf("the pod is %s of %s, not %v", instance, revision, ofPod[0].Metric)
		case len(ofServices) != 0:
			return fmt.Errorf("again by its Services: %v", ofServices)
		case len(ready) != 1 || ready[0].value() != "1":
			return fmt.Errorf("coffeebuddy_ready: %v", ready)
		case len(trap) == 0:
			return errors.New("the job without the rule has not found the Services yet")
		}
		return nil
	})

	down := 0
	for _, t := range trap {
		if t.value() == "0" {
			down++
		}
	}
	s.figures.add("targets by annotations: of the pod; of its Services; those without the rule", "%d; %d; %d, %d of them down",
		len(ofPod), len(ofServices), len(trap), down)
}

type series struct {
	Metric map[string]string
	Value  [2]any
}

func (s series) value() string { return fmt.Sprint(s.Value[1]) }

// query returns what Prometheus answers.
func query(ctx context.Context, api *caller, expression string) ([]series, error) {
	a, err := api.get(ctx, "/api/v1/query?query="+url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	if a.code != http.StatusOK {
		return nil, fmt.Errorf("%d %s", a.code, a.body)
	}
	var reply struct{ Data struct{ Result []series } }
	err = json.Unmarshal([]byte(a.body), &reply)
	return reply.Data.Result, err
}
