package queueproxy

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestDrainLosesNothing stops one of two pods under load: nobody but the balancer may notice.
func TestDrainLosesNothing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	platform := startPlatform(t)
	pods := []*pod{startPod(t, platform, podOptions{}), startPod(t, platform, podOptions{})}
	for _, pod := range pods {
		pod.becomesReady(t)
	}
	balancer := startBalancer(t, pods...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const many = 50
	clients := startClients(ctx, t, many, strings.TrimPrefix(balancer.url, "http://"))
	eventually(t, soon, func() bool { return clients.count() > 10*many })
	going, staying := balancer.backends[0], balancer.backends[1]
	is.True(going.answered.Load() > 0 && staying.answered.Load() > 0) // both have a share

	before, signalled, answered := clients.count(), time.Now(), going.answered.Load()
	s := pods[0].stop(t)
	during := clients.count() - before
	cancel()
	clients.running.Wait()

	for i, f := range clients.failed {
		if i < 10 {
			t.Errorf("%s after the signal: %v", rounded(f.at.Sub(signalled)), f.err)
		}
	}
	balancer.mu.Lock()
	defer balancer.mu.Unlock()
	is.NoErr(errors.Join(balancer.wrong[:min(10, len(balancer.wrong))]...)) // each request was answered, at the first attempt
	late := going.answered.Load() - answered
	is.True(late > 0) // it has answered while it drained
	checkStopped(t, pods[0], s)
	figure(t, "drain: %d requests answered in %s by two pods, of which one was stopped; failed or not 2xx: %d; slowest answer %s",
		during, rounded(s.queue), len(clients.failed), rounded(clients.slowest))
	figure(t, "drain: the pod's probe said so and the balancer left after %s; by then it had answered %d more",
		rounded(time.Unix(0, going.left.Load()).Sub(signalled)), late)
}

// TestDrainFinishesWhatIsInFlight stops the only pod while it has an event that takes a second.
func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	pod := startPod(t, startPlatform(t), podOptions{})
	pod.becomesReady(t)
	call := startCall(t, pod.throughQueue())
	eventually(t, soon, func() bool { return pod.metrics(t)["coffeebuddy_http_requests_in_flight"] >= 2 })
	var a answer
	answered := make(chan error, 1)
	ctx := t.Context()
	go func() {
		pause(ctx, time.Second) // real time: it is what the event takes
		call.write(t, lastPart)
		var err error
		a, err = call.answer()
		answered <- err
	}()
	s := pod.stop(t)
	is.NoErr(<-answered)
	is.Equal(a.status, http.StatusOK)
	checkStopped(t, pod, s)
	figure(t, "drain with an event in flight: %d after %s; the pod has ended after %s", a.status, rounded(a.took), rounded(s.queue))
}

// checkStopped holds the end of a pod to what Knative expects of it.
func checkStopped(t *testing.T, p *pod, s stopped) {
	t.Helper()
	is := is.New(t)
	is.True(!s.killed)                 // within the grace period
	is.Equal(s.preStop, http.StatusOK) // the hook
	is.Equal(p.queue.ExitCode(), 0)
	is.Equal(p.function.ExitCode(), 0)
	figure(t, "stop: preStop answered after %s, the function has ended %s later, queue-proxy after %s; killed after %s at the latest",
		rounded(s.drained), rounded(s.function-s.drained), rounded(s.queue), p.manifest.grace)
}
