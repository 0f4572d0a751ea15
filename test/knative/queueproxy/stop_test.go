package queueproxy

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"coffeebuddy/test/devstack"
)

// A stopped says how a pod ended.
type stopped struct {
	preStop         int           // the status of the hook's answer
	drained         time.Duration // when it came
	function, queue time.Duration // when they had ended
	killed          bool          // at the end of the grace period
}

// stop ends the pod as kubelet does: each container gets SIGTERM, the function not before its preStop hook has been answered; when the
// grace period is over, SIGKILL. All times are from the beginning.
func (p *pod) stop(t *testing.T) (s stopped) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), p.manifest.grace)
	defer cancel()
	var ends sync.WaitGroup
	ends.Go(func() {
		if err := p.queue.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		p.awaitEnd(ctx, p.queue)
		s.queue = time.Since(began)
	})
	ends.Go(func() {
		s.preStop = p.preStop(ctx, t)
		s.drained = time.Since(began)
		if err := p.function.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		p.awaitEnd(ctx, p.function)
		s.function = time.Since(began)
	})
	ends.Wait()
	s.killed = ctx.Err() != nil
	return s
}

// preStop calls the function's hook and returns the status of the answer; to kubelet it does not matter.
func (p *pod) preStop(ctx context.Context, t *testing.T) int {
	hook := p.manifest.function.Lifecycle.PreStop.HTTPGet
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(p.network.address(), hook.Port.String())+hook.Path, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// awaitEnd kills what has not ended when ctx has.
func (p *pod) awaitEnd(ctx context.Context, process *devstack.Process) {
	select {
	case <-process.Ended():
	case <-ctx.Done():
		process.Kill()
	}
}
