package live

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// newPod returns a pod that is not started, at a port of its own. Ports are below those that the system hands out to
// outgoing connections, any of which could take it before the function does.
func newPod(ctx context.Context, revision, suffix string) (*pod, error) {
	const first, last = 30000, 32767
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		if listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address); err == nil {
			listener.Close()
			return &pod{name: revision + "-deployment-" + suffix, revision: revision, address: address}, nil
		}
	}
	return nil, fmt.Errorf("no port for pod %s is free", suffix)
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
		for tick := time.NewTicker(time.Second); ctx.Err() == nil; <-tick.C {
			ready, err := p.answers(ctx, "/health/ready")
			p.ready.Store(err == nil && ready)
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
