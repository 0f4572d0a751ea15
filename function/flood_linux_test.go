package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestFloods makes 20,000 attempts of each kind to take a connection and keep it. Meanwhile 95 % of the
// probes take less than 100 ms. The rest are late where the attacker connects faster than the function
// accepts: then the kernel drops what opens a connection, and the prober's sends it again after 1 s, 3 s
// or 7 s. With net/http alone the same happens. Resident are less than 140 MiB, garbage included;
// afterwards all is as before.
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
			is.True(p.rounds(t, 0.95, func() { p.flood(t, attempts, flood.sent, flood.leaves) }))
			resident := p.memory(t, "VmHWM")
			is.True(resident < 140<<20)
			// Afterwards a caller gets what he asked for, at once and on one connection.
			eventually(t, func() bool {
				began := time.Now()
				code, body := get(t, p.url+"/metrics")
				inTime := time.Since(began) < time.Second
				return inTime && code == http.StatusOK && strings.Contains(body, "coffeebuddy_events_in_flight 0\n")
			})
			eventually(t, func() bool {
				_, body := get(t, p.url+"/metrics")
				return strings.Contains(body, "coffeebuddy_http_requests_in_flight 1\n")
			})
			p.ends(t)
		})
	}
}

// flood makes attempts to keep connections, in a process of its own that yields the processor to
// any other: a real attacker has a machine of his own.
func (p *program) flood(t *testing.T, attempts int, sent string, leaves bool) {
	t.Helper()
	attacker := exec.CommandContext(t.Context(), "nice", "-n", "19", os.Args[0], "-test.run=^TestAttacker$")
	attacker.Env = append(os.Environ(), "ATTACKED="+strings.TrimPrefix(p.url, "http://"),
		fmt.Sprint("ATTEMPTS=", attempts), "SENT="+base64.StdEncoding.EncodeToString([]byte(sent)), fmt.Sprint("LEAVES=", leaves))
	if out, err := attacker.CombinedOutput(); err != nil {
		t.Errorf("the attacker: %v\n%.2000s", err, out)
	}
}

// TestAttacker is the attacker's process, not a test. It opens connections, sends the same on each,
// and reads nothing. It keeps 5,000 open, more than the function keeps.
func TestAttacker(t *testing.T) {
	address := os.Getenv("ATTACKED")
	if address == "" {
		t.Skip("TestFloods starts it")
	}
	attempts, err1 := strconv.Atoi(os.Getenv("ATTEMPTS"))
	sent, err2 := base64.StdEncoding.DecodeString(os.Getenv("SENT"))
	leaves, err3 := strconv.ParseBool(os.Getenv("LEAVES"))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	const openers = 50
	var begun atomic.Int64
	var all sync.WaitGroup
	for i := range openers {
		all.Go(func() {
			kept := make([]net.Conn, 5000/openers)
			for n := 0; int(begun.Add(1)) <= attempts; n++ {
				conn, err := dial(address, i)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
				_, _ = conn.Write(sent) // the function may have closed it
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

// probed probes health, liveness and readiness in turn, of the server at a URL while something goes on, and
// returns how long each probe took. Each has a connection of its own, as the kubelet's have. One that fails
// fails the test, but for one whose connection the kernel never let through.
func probed(t *testing.T, url string, during func()) []time.Duration {
	t.Helper()
	var took []time.Duration
	ended, stop := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
		for n := 0; ; n++ {
			path := []string{"/health/live", "/health/ready"}[n%2]
			began := time.Now()
			resp, err := client.Get(url + path)
			switch {
			case os.IsTimeout(err):
				t.Logf("a probe timed out: %v", err)
			case err != nil:
				t.Errorf("a probe: %v", err)
				return
			default:
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("a probe of %s: %d", path, resp.StatusCode)
				}
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
