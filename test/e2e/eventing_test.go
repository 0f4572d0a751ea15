package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// An eventing accepts events by HTTP and delivers each to one of several functions, by Knative's
// rules: again, with exponential backoff, after no response, 404, 408, 409, 429 and 5xx; after
// any other status but 2xx, and after the last retry, to the dead letters.
type eventing struct {
	url    string
	client *http.Client
	to     func() string // URL of the function for the next attempt

	slots   chan struct{} // deliveries at a time
	backoff time.Duration // before the first retry
	retries int

	mu      sync.Mutex
	pending int
	retried int      // attempts beyond the first of their event
	dead    []string // ids
}

func startEventing(t *testing.T, to func() string) *eventing {
	t.Helper()
	b := &eventing{
		client: &http.Client{Timeout: 20 * time.Second}, to: to,
		slots: make(chan struct{}, 16), backoff: 50 * time.Millisecond, retries: 12,
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var deliveries sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // nothing was accepted
		}
		b.mu.Lock()
		b.pending++
		b.mu.Unlock()
		deliveries.Go(func() { b.deliver(ctx, accepted{r.Header.Clone(), body}) })
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(func() { server.Close(); stop(); deliveries.Wait(); b.client.CloseIdleConnections() })
	b.url = server.URL
	return b
}

func (b *eventing) deliver(ctx context.Context, e accepted) {
	defer func() { b.mu.Lock(); b.pending--; b.mu.Unlock() }()
	for attempt := 0; ctx.Err() == nil; attempt++ {
		b.slots <- struct{}{}
		status := e.deliver(ctx, b.client, b.to())
		<-b.slots
		switch {
		case status >= 200 && status <= 299:
			return
		case attempt == b.retries, status != 0 && status != 404 && status != 408 && status != 409 && status != 429 && status < 500:
			b.mu.Lock()
			b.dead = append(b.dead, e.header.Get("Ce-Id"))
			b.mu.Unlock()
			return
		}
		b.mu.Lock()
		b.retried++
		b.mu.Unlock()
		select {
		case <-time.After(min(b.backoff<<attempt, 2*time.Second)):
		case <-ctx.Done():
		}
	}
}

// state returns how many events are still to be delivered, how many attempts were retries, and
// the ids of the dead letters.
func (b *eventing) state() (pending, retried int, dead []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pending, b.retried, b.dead
}

// TestNothingAcknowledgedIsLost: Slack, one of two functions, broker, one of two functions,
// response_url; and one of the two is killed with SIGKILL again and again. Each command that was
// acknowledged has its effect. It is not parallel to others: it takes the whole machine.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	commands, kills := 10_000, 30
	if testing.Short() {
		commands, kills = 1_000, 5
	}
	is := is.New(t)
	p, h := startPlatform(t, devstack.VaultOptions{}), startHooks(t)
	var functions [2]atomic.Pointer[function]
	b := startEventing(t, func() string { return functions[rand.IntN(2)].Load().url })
	variables := []string{"K_SINK=" + b.url, "HTTPS_PROXY=" + h.ProxyURL, "SSL_CERT_FILE=" + h.ca, "COFFEEBUDDY_LOG_LEVEL=warn"}
	for i := range functions {
		functions[i].Store(startKillable(t, p, variables...))
	}

	began := time.Now()
	var next, acknowledged, refused atomic.Int64
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for n := next.Add(1); n <= int64(commands) && t.Context().Err() == nil; {
				f := functions[rand.IntN(2)].Load()
				a, err := f.command(t.Context(), p.vault.SigningSecret, fmt.Sprintf("/coffee echo command-%05d", n))
				if err != nil || a.status != http.StatusOK || a.body != "" { // the user types it again
					refused.Add(1)
					time.Sleep(20 * time.Millisecond)
					continue
				}
				acknowledged.Add(1)
				n = next.Add(1)
			}
		})
	}
	for kill := range kills {
		eventually(t, time.Minute, func() bool { return acknowledged.Load() >= int64(commands*(kill+1)/(kills+1)) })
		functions[kill%2].Load().Kill() // with SIGKILL
		functions[kill%2].Store(startKillable(t, p, variables...))
	}
	senders.Wait()
	is.Equal(acknowledged.Load(), int64(commands))
	sent := time.Since(began)
	eventually(t, time.Minute, func() bool { pending, _, _ := b.state(); return pending == 0 })

	posts, effects := h.Texts(), make(map[string]bool)
	for _, text := range posts {
		effects[text] = true
	}
	_, retried, dead := b.state()
	t.Logf("%d commands acknowledged in %s, %d more refused or cut off; %d kills, %d deliveries again, %d effects twice",
		commands, sent.Round(time.Millisecond), refused.Load(), kills, retried, len(posts)-len(effects))
	is.Equal(len(dead), 0)
	lost := 0
	for n := 1; n <= commands; n++ {
		if !effects[fmt.Sprintf("command-%05d", n)] {
			lost++
		}
	}
	is.Equal(lost, 0)
	is.Equal(len(effects), commands)

	// Anybody may send to the broker: what the function has not signed is a dead letter, at once.
	for i := range 10 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url, bytes.NewReader([]byte(`{"command":"/coffee","text":"echo forged"}`)))
		is.NoErr(err)
		for name, value := range map[string]string{
			"Ce-Specversion": "1.0", "Ce-Id": fmt.Sprintf("forged-%d", i), "Ce-Source": "//slack.com/teams/T1/apps/A1", "Ce-Type": "com.slack.command", "Content-Type": "application/json",
		} {
			request.Header.Set(name, value)
		}
		response, err := b.client.Do(request)
		is.NoErr(err)
		response.Body.Close()
	}
	eventually(t, soon, func() bool { pending, _, _ := b.state(); return pending == 0 })
	_, again, dead := b.state()
	is.Equal(len(dead), 10)
	is.Equal(again, retried)
	is.True(!strings.Contains(strings.Join(h.Texts(), " "), "forged"))
}
