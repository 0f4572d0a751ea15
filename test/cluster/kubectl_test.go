package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const namespace = "coffeebuddy"

// command runs a program at the top of the repository and returns its standard output.
func command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stdin = strings.NewReader(stdin)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, lastLines(errors.String()))
	}
	return string(out), nil
}

func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), "", "kubectl", append([]string{"-n", namespace}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ko runs ko, or what the variable KO names, as the Makefile does, at the top of the repository.
func ko(t *testing.T, args ...string) string {
	t.Helper()
	return koIn(t, ".", args...)
}

// koIn runs it in a folder of the repository.
func koIn(t *testing.T, folder string, args ...string) string {
	t.Helper()
	words := strings.Fields(os.Getenv("KO"))
	if len(words) == 0 {
		words = []string{"ko"}
	}
	out, err := command(t.Context(), "", "env", slices.Concat([]string{"-C", folder}, words, args)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// get decodes what kubectl says about some objects.
func get[T any](t *testing.T, args ...string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(kubectl(t, append([]string{"get", "-o", "json"}, args...)...)), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

type list[T any] struct{ Items []T }

type pod struct {
	Metadata struct {
		Name              string
		Labels            map[string]string
		DeletionTimestamp *time.Time
	}
	Status struct {
		PodIP             string
		Conditions        conditions
		ContainerStatuses []struct {
			Name         string
			RestartCount int
			State        struct{ Running *struct{} }
		}
	}
}

type conditions []struct{ Type, Status, Reason, Message string }

func (c conditions) get(kind string) (status, why string) {
	for _, c := range c {
		if c.Type == kind {
			return c.Status, strings.TrimSpace(c.Reason + ": " + c.Message)
		}
	}
	return "Unknown", ""
}

// allPods returns the function's pods, those included that are being deleted.
func allPods(t *testing.T) []pod {
	t.Helper()
	return get[list[pod]](t, "pods", "-l", "app.kubernetes.io/name=coffeebuddy").Items
}

// pods returns the function's pods that are not being deleted.
func pods(t *testing.T) []pod {
	t.Helper()
	var left []pod
	for _, p := range allPods(t) {
		if p.Metadata.DeletionTimestamp == nil {
			left = append(left, p)
		}
	}
	return left
}

// noPodIsLeft waits until the last pod has gone, by itself or after its drain.
func noPodIsLeft(t *testing.T) {
	t.Helper()
	eventually(t, 3*time.Minute, "no pod is left", func() error {
		if n := len(allPods(t)); n > 0 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
}

// onlyPod returns the one pod of the function, once its container runs.
func onlyPod(t *testing.T) (only pod) {
	t.Helper()
	eventually(t, time.Minute, "one running pod", func() error {
		all := pods(t)
		if len(all) != 1 {
			return fmt.Errorf("%d pods", len(all))
		}
		only = all[0]
		for _, c := range only.Status.ContainerStatuses {
			if c.Name == "coffeebuddy" && c.State.Running != nil {
				return nil
			}
		}
		return fmt.Errorf("the function does not run in %s", only.Metadata.Name)
	})
	return only
}

type service struct {
	Status struct {
		URL                     string
		LatestReadyRevisionName string
		LatestCreatedRevision   string `json:"latestCreatedRevisionName"`
		ObservedGeneration      int64
		Conditions              conditions
	}
	Metadata struct{ Generation int64 }
}

// ready returns Knative's verdict on the Service as it is now.
func ready(t *testing.T) (status, why string) {
	t.Helper()
	s := get[service](t, "ksvc", "coffeebuddy")
	if s.Status.ObservedGeneration != s.Metadata.Generation {
		return "Unknown", "not observed yet"
	}
	return s.Status.Conditions.get("Ready")
}

// latestRevision is the name of the latest revision that became ready.
func latestRevision(t *testing.T) string {
	t.Helper()
	return get[service](t, "ksvc", "coffeebuddy").Status.LatestReadyRevisionName
}

// clusterIP is the address of a Kubernetes Service.
func clusterIP(t *testing.T, namespace, service string) string {
	t.Helper()
	return kubectl(t, "get", "service", service, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
}

// becomesReady waits until Knative says that the Service is ready, returns how long that took, and waits until its address leads there.
func becomesReady(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	took := eventually(t, within, "the Service is ready", func() error {
		if status, why := ready(t); status != "True" {
			return fmt.Errorf("Ready is %s: %s", status, why)
		}
		return nil
	})
	revision := latestRevision(t)
	address := clusterIP(t, namespace, revision)
	eventually(t, time.Minute, "the revision's Service leads to it", func() error {
		return leads(t.Context(), address, "Knative-Serving-Namespace: "+namespace, "Knative-Serving-Revision: "+revision)
	})
	return took
}

// leads returns an error until the address of a Kubernetes Service leads to the function. Nodes hear of a Service, and of its ready
// pods, later than Knative and the Deployment do. Until then its address leads out of the cluster, to nobody or to a stranger, and
// a connection that was made then stays there: each try has its own, and little time.
func leads(ctx context.Context, address string, header ...string) error {
	c := newCaller("http://"+address, "", 2*time.Second)
	c.client.Transport = &http.Transport{DisableKeepAlives: true}
	a, err := c.send(ctx, http.MethodGet, "/health/live", "", header...)
	if err == nil && (a.code != http.StatusOK || !strings.Contains(a.body, `"live"`)) {
		err = fmt.Errorf("%d %s", a.code, a.body)
	}
	return err
}

// endpoints returns how many addresses a Kubernetes Service sends requests to.
func endpoints(t *testing.T, service string) int {
	t.Helper()
	type slice struct {
		Endpoints []struct {
			Addresses  []string
			Conditions struct{ Ready bool }
		}
	}
	n := 0
	for _, s := range get[list[slice]](t, "endpointslices", "-l", "kubernetes.io/service-name="+service).Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready {
				n += len(e.Addresses)
			}
		}
	}
	return n
}

// eventually waits for a condition, and returns how long that took.
func eventually(t *testing.T, within time.Duration, what string, condition func() error) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > within {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, t.Context().Err())
		case <-tick.C:
		}
	}
}
