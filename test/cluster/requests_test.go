package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A caller sends requests to one address under one Host.
type caller struct {
	client    *http.Client
	url, host string
}

func newCaller(url, host string, patience time.Duration) *caller {
	return &caller{client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, url: url, host: host}
}

type answer struct {
	code   int
	header http.Header
	body   string
}

func (c *caller) send(ctx context.Context, method, path, body string, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Host = c.host
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

func (c *caller) get(ctx context.Context, path string) (answer, error) {
	return c.send(ctx, http.MethodGet, path, "")
}

// json sends what func invoke sends.
func (c *caller) json(ctx context.Context) (answer, error) {
	return c.send(ctx, http.MethodPost, "/", `{"message":"Hello World"}`, "Content-Type: application/json")
}

// event sends what func invoke -f cloudevent sends.
func (c *caller) event(ctx context.Context, id string) (answer, error) {
	return c.send(ctx, http.MethodPost, "/", `{"message":"Hello World"}`, "Content-Type: application/json",
		"Ce-Specversion: 1.0", "Ce-Id: "+id, "Ce-Source: /boson/fn", "Ce-Type: boson.fn")
}

// A load is sixteen callers, each with 20 requests a second at most: events, plain JSON, and liveness. Nothing is tried again.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	began   time.Time

	mu       sync.Mutex
	answered int
	slowest  time.Duration
	failed   []string
}

func startLoad(ctx context.Context, c *caller) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop, began: time.Now()}
	for worker := range 16 {
		l.running.Go(func() {
			pace := time.NewTicker(50 * time.Millisecond)
			defer pace.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-pace.C:
				}
				l.one(context.WithoutCancel(ctx), c, worker, n)
			}
		})
	}
	return l
}

func (l *load) one(ctx context.Context, c *caller, worker, n int) {
	began := time.Now()
	var a answer
	var err error
	switch n % 3 {
	case 0:
		a, err = c.event(ctx, fmt.Sprintf("%d-%d", worker, n))
	case 1:
		a, err = c.json(ctx)
	default:
		a, err = c.get(ctx, "/health/live")
	}
	at, took := began.Sub(l.began).Round(time.Millisecond), time.Since(began).Round(time.Millisecond)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered++
	l.slowest = max(l.slowest, took)
	if err != nil {
		l.failed = append(l.failed, fmt.Sprintf("at %s, after %s: %v", at, took, err))
	} else if a.code != http.StatusOK {
		l.failed = append(l.failed, fmt.Sprintf("at %s, after %s: %d %s", at, took, a.code, a.body))
	}
}

// end stops the load and returns how it went.
func (l *load) end() (answered int, failed []string, slowest time.Duration) {
	l.stop()
	l.running.Wait()
	return l.answered, l.failed, l.slowest
}
