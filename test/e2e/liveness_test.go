package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// liveness watches /health/live beside a test, whatever the test does to the servers.
type liveness struct {
	cancel context.CancelFunc
	result chan livenessResult
}

type livenessResult struct {
	asked   int // and answered
	late    int // not answered in time
	slowest time.Duration
	wrong   error // the first wrong answer, if any
}

// watchLiveness asks 20 times a second until end, each time on a connection of its own as kubelet does.
func watchLiveness(ctx context.Context, url string) *liveness {
	ctx, cancel := context.WithCancel(ctx)
	l := &liveness{cancel: cancel, result: make(chan livenessResult, 1)}
	go func() { l.result <- askLiveness(ctx, url+"/health/live") }()
	return l
}

func askLiveness(ctx context.Context, url string) (result livenessResult) {
	const timeout, failures = 2 * time.Second, 3 // timeoutSeconds and failureThreshold of knative/400-service.yaml
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: timeout}
	asking := context.WithoutCancel(ctx) // the last one is waited for, too: a test may be shorter than three timeouts
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for inARow := 0; ; {
		asked := time.Now()
		a, err := get(asking, client, url)
		var timedOut net.Error
		switch {
		case errors.As(err, &timedOut) && timedOut.Timeout():
			result.late++
			if inARow++; inARow < failures {
				continue
			}
			result.wrong = err
		case err != nil:
			result.wrong = err
		case a.status != http.StatusOK || a.body != `{"status":"live"}`+"\n":
			result.wrong = fmt.Errorf("%d %s", a.status, a.body)
		}
		if result.wrong != nil {
			return result
		}
		result.asked++
		inARow = 0
		result.slowest = max(result.slowest, time.Since(asked))
		select {
		case <-ctx.Done():
			return result
		case <-tick.C:
		}
	}
}

// end fails the test if an answer was wrong, or if as many in a row timed out as kubelet needs to restart the container.
func (l *liveness) end(t *testing.T) {
	t.Helper()
	l.cancel()
	result := <-l.result
	if result.wrong != nil {
		t.Errorf("/health/live, after %d right answers: %v", result.asked, result.wrong)
	}
	t.Logf("/health/live: %d answers, all 200, the slowest in %s; %d timed out", result.asked, result.slowest.Round(time.Microsecond), result.late)
}
