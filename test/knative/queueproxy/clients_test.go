package queueproxy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// clients send requests over kept connections, each client one after the other, and hold every answer to what it must be.
type clients struct {
	running sync.WaitGroup

	mu       sync.Mutex
	answered int
	slowest  time.Duration
	failed   []failure
}

// A failure is an answer that was not 2xx, not the right one, or did not come.
type failure struct {
	at     time.Time
	status int // 0: none came
	err    error
}

// clientPause is what each client waits between two requests: without, they would measure the machine.
const clientPause = 100 * time.Millisecond

// startClients sends to a server until ctx ends.
func startClients(ctx context.Context, t *testing.T, n int, server string) *clients {
	c := new(clients)
	for i := range n {
		client := newClient(t)
		c.running.Go(func() {
			// They do not start together.
			for more := pause(ctx, clientPause*time.Duration(i)/time.Duration(n)); more; more = pause(ctx, clientPause) {
				c.ask(context.WithoutCancel(ctx), client, server, i)
				i++ // so that each sends all kinds
			}
		})
	}
	return c
}

// ask sends one of three kinds of request: two that no proxy may repeat, and one that any may.
func (c *clients) ask(ctx context.Context, client *http.Client, server string, i int) {
	r, want := request{path: "/health/live"}, `"live"`
	switch i % 3 {
	case 0:
		r = request{http.MethodPost, "/", jsonHeader(), fmt.Sprintf(`{"n":%d}`, i)}
		want = fmt.Sprintf(`"message":{"n":%d}`, i)
	case 1:
		r = request{http.MethodPost, "/", eventHeader(fmt.Sprint(i)), fmt.Sprintf(`{"event":%d}`, i)}
		want = fmt.Sprintf(`"message":{"event":%d}`, i)
	}
	a, err := send(ctx, client, server, r)
	if err == nil && (a.status != http.StatusOK || !strings.Contains(a.body, want)) {
		err = fmt.Errorf("%s %s: %d %.200s", r.method, r.path, a.status, a.body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed = append(c.failed, failure{time.Now(), a.status, err})
		return
	}
	c.answered++
	c.slowest = max(c.slowest, a.took)
}

// count returns how many answers there have been.
func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered
}
