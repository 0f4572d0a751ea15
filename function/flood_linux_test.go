package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestFloods is 20,000 attempts of each kind to take a connection and keep it. No probe fails, and
// the median one takes less than 100 ms: attackers, prober and function share the processors of one
// machine, where the slowest of net/http alone takes as long as the function's, half a second and more.
// Resident are less than 200 MiB, garbage included, of which GOGC=200 allows much; afterwards all is
// as before.
func TestFloods(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the function without cgo, and takes a minute: make e2e runs it")
	}
	binary := built(t)
	const attempts = 20_000
	head := "POST / HTTP/1.1\r\nHost: x\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /s\r\nCe-Type: boson.fn\r\nContent-Type: text/plain\r\n"
	for _, flood := range []struct {
		name, sent string
		leaves     bool // at once
	}{
		{"connections on which nothing is sent", "", false},
		{"one byte of a header, and silence", "G", false},
		{"headers of 250 fields that do not end", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", 250), false},
		{"36 KB of tiny fields", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", 9000), false},
		{"events without their bodies", head + "Content-Length: 1000\r\n\r\n", false},
		{"bodies that stop halfway", head + "Content-Length: 1000\r\n\r\n" + strings.Repeat("x", 500), false},
		{"chunked bodies that stop halfway", head + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", false},
		{"scrapes that nobody reads", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"idle connections, after a request", "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"connections that are closed at once", "", true},
	} {
		t.Run(flood.name, func(t *testing.T) {
			is := is.New(t)
			p := startLimited(t, binary)
			is.True(p.rounds(t, func() { p.flood(t, attempts, flood.sent, flood.leaves) }))
			resident := p.memory(t, "VmHWM")
			is.True(resident < 200<<20)
			// Afterwards a caller gets what he asked for, at once and on one connection.
			began := time.Now()
			code, body := get(t, p.url+"/metrics")
			is.Equal(code, http.StatusOK)
			is.True(time.Since(began) < time.Second)
			is.True(strings.Contains(body, "coffeebuddy_events_in_flight 0\n"))
			eventually(t, func() bool {
				_, body := get(t, p.url+"/metrics")
				return strings.Contains(body, "coffeebuddy_http_requests_in_flight 1\n")
			})
			p.ends(t)
		})
	}
}

// flood opens connections, sends the same on each, and reads nothing. It keeps 5,000 open, more than
// the function keeps.
func (p *program) flood(t *testing.T, attempts int, sent string, leaves bool) {
	t.Helper()
	const openers = 50
	var begun atomic.Int64
	var all sync.WaitGroup
	for i := range openers {
		all.Go(func() {
			kept := make([]net.Conn, 5000/openers)
			defer func() {
				for _, conn := range kept {
					if conn != nil {
						conn.Close()
					}
				}
			}()
			for n := 0; int(begun.Add(1)) <= attempts; n++ {
				conn, err := p.dial(i)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
				_, _ = io.WriteString(conn, sent) // the function may have closed it
				if leaves {
					conn.Close()
					continue
				}
				if old := kept[n%len(kept)]; old != nil {
					old.Close()
				}
				kept[n%len(kept)] = conn
			}
		})
	}
	all.Wait()
}

// probed probes health, liveness and readiness in turn, while something goes on, and returns how long each
// probe took. Each has a connection of its own, as the kubelet's have. One that fails fails the test.
func (p *program) probed(t *testing.T, during func()) []time.Duration {
	t.Helper()
	var took []time.Duration
	ended, stop := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
		for n := 0; ; n++ {
			path := []string{"/health/live", "/health/ready"}[n%2]
			began := time.Now()
			resp, err := client.Get(p.url + path)
			if err != nil {
				t.Errorf("a probe: %v", err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("a probe of %s: %d", path, resp.StatusCode)
			}
			took = append(took, time.Since(began))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	during()
	close(stop)
	<-ended
	return took
}
