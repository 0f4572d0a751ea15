package queueproxy

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A request is one of a caller.
type request struct {
	method string // empty: GET
	path   string
	header map[string]string
	body   string
}

// An answer is one that was read whole.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// send sends a request to a server, given by its address and port.
func send(ctx context.Context, client *http.Client, server string, r request) (answer, error) {
	began := time.Now()
	sent, err := http.NewRequestWithContext(ctx, r.method, "http://"+server, strings.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	path, query, _ := strings.Cut(r.path, "?")
	sent.URL = &url.URL{Scheme: "http", Host: server, Path: path, RawQuery: query}
	for name, value := range r.header {
		sent.Header.Set(name, value)
	}
	response, err := client.Do(sent)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(text), took: time.Since(began)}, err
}

// newClient returns a client with connections of its own, which follows no redirect and gives up in the end: what hangs is a failure.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       40 * time.Second, // above queue-proxy's responseStartTimeoutSeconds
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// jsonHeader is that of plain JSON.
func jsonHeader() map[string]string { return map[string]string{"Content-Type": "application/json"} }

// eventHeader is that of an event in binary mode.
func eventHeader(id string) map[string]string {
	return map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "/queueproxy", "Ce-Type": "boson.fn",
	}
}

// pause returns when the time is over, or false as soon as ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// eventually polls a condition, and returns how long it took.
func eventually(t *testing.T, within time.Duration, condition func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Since(began) > within {
			t.Fatalf("it did not come true within %s", within)
		}
		<-tick.C
	}
	return time.Since(began)
}
