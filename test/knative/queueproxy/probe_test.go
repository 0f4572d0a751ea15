package queueproxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	netheader "knative.dev/networking/pkg/http/header"
	"knative.dev/serving/pkg/queue"
)

// A prober asks queue-proxy whether the pod is ready.
type prober struct {
	name             string
	path             string
	header           http.Header
	period, patience time.Duration
}

// kubelet is the prober that the pod's own manifest asks for. What that leaves open has Kubernetes' defaults.
func (m manifest) kubelet() prober {
	probe := m.queue.ReadinessProbe
	header := http.Header{"User-Agent": {netheader.KubeProbeUAPrefix + "1.34"}}
	for _, h := range probe.HTTPGet.HTTPHeaders {
		header.Set(h.Name, h.Value)
	}
	seconds := func(set int32, otherwise time.Duration) time.Duration {
		if set > 0 {
			return time.Duration(set) * time.Second
		}
		return otherwise
	}
	return prober{
		name: "kubelet", path: "/" + probe.HTTPGet.Path, header: header,
		period: seconds(probe.PeriodSeconds, 10*time.Second), patience: seconds(probe.TimeoutSeconds, time.Second),
	}
}

// activator is the prober of Knative's activator, until it has found the pod ready.
func activator() prober {
	return prober{
		name: "activator", path: "/healthz",
		header: http.Header{"User-Agent": {netheader.ActivatorUserAgent}, netheader.ProbeKey: {queue.Name}},
		period: 200 * time.Millisecond, patience: 300 * time.Millisecond,
	}
}

// patient is the same prober, which waits for what comes: queue-proxy itself gives up after ten seconds.
func (p prober) patient() prober {
	p.patience = 15 * time.Second
	return p
}

// ask probes a pod once, on a connection of its own.
func (p prober) ask(ctx context.Context, address string) (answer, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, queuePort)+p.path, nil)
	if err != nil {
		return answer{}, err
	}
	r.Header = p.header.Clone()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(body), took: time.Since(began)}, err
}

// says returns what the prober takes from one probe.
func (p prober) says(ctx context.Context, address string) error {
	a, err := p.ask(ctx, address)
	switch {
	case err != nil:
		return err
	case a.status != http.StatusOK || a.body != queue.Name:
		return fmt.Errorf("%d %s", a.status, a.body)
	}
	return nil
}

// keepAsking probes at the prober's pace until ctx ends.
func (p prober) keepAsking(ctx context.Context, address string) {
	for {
		next := time.Now().Add(p.period)
		_ = p.says(ctx, address) // that it asks is all
		if !pause(ctx, time.Until(next)) {
			return
		}
	}
}

// becomesReady returns how long after the pod's start the first probe said that it is ready.
func (p *pod) becomesReady(t *testing.T) time.Duration {
	t.Helper()
	eventually(t, 30*time.Second, func() bool { return activator().patient().says(t.Context(), p.network.address()) == nil })
	return time.Since(p.began)
}
