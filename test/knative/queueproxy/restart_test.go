package queueproxy

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestRestartOfTheFunctionAlone is what a failed liveness probe leads to: queue-proxy lives on and has nobody to hand requests to for a
// while. It is told so, and nothing hangs.
func TestRestartOfTheFunctionAlone(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	pod := startPod(t, startPlatform(t), podOptions{})
	pod.becomesReady(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	clients := startClients(ctx, t, 10, pod.throughQueue())
	call := startCall(t, pod.throughQueue())
	eventually(t, soon, func() bool { return clients.count() > 50 && pod.metrics(t)["coffeebuddy_http_requests_in_flight"] >= 2 })

	began := time.Now()
	is.Equal(pod.preStop(ctx, t), http.StatusOK)
	hook := time.Since(began)
	signalled := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- pod.function.Stop(context.WithoutCancel(ctx)) }()
	is.True(pause(ctx, time.Second)) // real time: a body has little more from SIGTERM on
	call.write(t, lastPart)
	a, err := call.answer()
	is.NoErr(err)
	is.Equal(a.status, http.StatusOK) // the event that was in flight
	is.NoErr(<-ended)
	is.Equal(pod.function.ExitCode(), 0)
	stopped := time.Since(signalled)

	restarted := time.Now()
	is.NoErr(pod.function.Start(ctx))
	took := eventually(t, soon, func() bool { return activator().says(t.Context(), pod.network.address()) == nil })
	before := clients.count()
	eventually(t, soon, func() bool { return clients.count() > before+50 })
	cancel()
	clients.running.Wait()

	for _, f := range clients.failed {
		if f.status != http.StatusBadGateway || f.at.Before(signalled) || f.at.After(restarted.Add(took).Add(time.Second)) {
			t.Errorf("%s after the signal: %v", rounded(f.at.Sub(signalled)), f.err)
		}
	}
	is.True(len(clients.failed) > 0) // the function was really away
	is.True(clients.slowest < 5*time.Second)
	figure(t, "restart of the function alone: preStop answered after %s; with an event in flight it ends %s after SIGTERM; ready %s after its start",
		rounded(hook), rounded(stopped), rounded(took))
	figure(t, "restart of the function alone: %d requests answered, %d got queue-proxy's 502 while it was away, the slowest answer took %s",
		clients.answered, len(clients.failed), rounded(clients.slowest))
}
