package live

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"coffeebuddy/test/devstack"
)

// The namespace that the pods say they are in.
const namespace = "coffeebuddy"

// A pod is the function as a process, with the labels of one.
type pod struct {
	name, revision string
	address        string
	process        *devstack.Process // nil until it is started
	ready          atomic.Bool       // by its own account
}

// newPod returns a pod that is not started, at a port of its own.
func newPod(ctx context.Context, revision, suffix string) (*pod, error) {
	port, err := devstack.FreePort(ctx)
	if err != nil {
		return nil, fmt.Errorf("a port for pod %s: %w", suffix, err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return &pod{name: revision + "-deployment-" + suffix, revision: revision, address: address}, nil
}

// scraped is what Prometheus knows of the pod, with the labels of a cluster's scrape configuration.
func (p *pod) scraped() devstack.Pod {
	return devstack.Pod{Target: p.address, Labels: map[string]string{"namespace": namespace, "pod": p.name, "revision": p.revision}}
}

// start starts the pod's process, and probes it once a second from then on, until ctx ends.
func (p *pod) start(ctx context.Context, program, dir string, environment []string) error {
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		return err
	}
	p.process, err = devstack.StartProcess(ctx, devstack.Command{
		Name: p.name, Path: program, Log: filepath.Join(dir, p.name+".log"), Env: append([]string{"PORT=" + port}, environment...),
		Ready: func(ctx context.Context) error {
			_, err := p.answers(ctx, "/health/live")
			return err
		},
	})
	if err != nil {
		return err
	}
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for ctx.Err() == nil {
			ready, err := p.answers(ctx, "/health/ready")
			p.ready.Store(err == nil && ready)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return nil
}

// answers reports whether a probe of the pod is answered with 200.
func (p *pod) answers(ctx context.Context, path string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return false, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	return response.StatusCode == http.StatusOK, response.Body.Close()
}
