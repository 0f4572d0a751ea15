package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// build returns a stripped binary of a package, as ko builds it.
func build(b *testing.B, pkg string) string {
	b.Helper()
	binary := filepath.Join(b.TempDir(), filepath.Base(pkg))
	command := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, pkg)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return binary
}

// launch runs a binary on a free port; quiet, since what is measured is not the log.
func launch(b *testing.B, binary string, variables ...string) *program {
	b.Helper()
	p := newProgram(b, binary, append([]string{"COFFEEBUDDY_LOG_LEVEL=error"}, variables...)...)
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	return p
}

func (p *program) stop() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// BenchmarkThroughput is a round of 150 ms for each request in turn, over
// eight connections, each asked as soon as it has answered. The client writes fixed
// bytes and counts those that come back, so that little but the server is measured.
// What counts is the median over the rounds of the ratio to bare net/http, measured
// before and after in the same round.
func BenchmarkThroughput(b *testing.B) {
	d := newDependencies(b)
	function := launch(b, build(b, "coffeebuddy/function"), "VAULT_ADDR="+d.vault.URL, "VAULT_TOKEN=s", "ORY_BASE_URL="+d.ory.URL)
	defer function.stop()
	bare := launch(b, build(b, "coffeebuddy/function/testdata/bare"))
	defer bare.stop()
	function.listening(b)
	bare.listening(b)
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	event := "POST / HTTP/1.1\r\nHost: x\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /s\r\nCe-Type: boson.fn\r\n" +
		"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n\"" + strings.Repeat("x", 98) + "\""
	requests := map[string]string{"live": get("/health/live"), "ready": get("/health/ready"), "event": event}

	rates, ratios := make(map[string][]float64), make(map[string][]float64)
	for b.Loop() {
		for name, request := range requests {
			before := rate(b, bare, requests["live"])
			measured := rate(b, function, request)
			after := rate(b, bare, requests["live"])
			rates["bare"] = append(rates["bare"], before, after)
			rates[name] = append(rates[name], measured)
			ratios[name] = append(ratios[name], 2*measured/(before+after))
		}
	}
	for name, all := range rates {
		b.ReportMetric(median(all), name+"-req/s")
	}
	for name, all := range ratios {
		b.ReportMetric(median(all), name+"/bare")
	}
}

// rate returns how many requests a program answers in a second.
func rate(b *testing.B, p *program, request string) float64 {
	b.Helper()
	const span = 150 * time.Millisecond
	var answered atomic.Int64
	var clients sync.WaitGroup
	began := time.Now()
	for range 8 {
		clients.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			buffer := make([]byte, 64<<10)
			for time.Since(began) < span {
				if err := exchange(conn, request, buffer); err != nil {
					b.Error(err)
					return
				}
				answered.Add(1)
			}
		})
	}
	clients.Wait()
	return float64(answered.Load()) / time.Since(began).Seconds()
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// exchange sends a request and reads one whole answer that has a Content-Length, or
// is chunked.
func exchange(conn net.Conn, request string, buffer []byte) error {
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	read := 0
	for {
		n, err := conn.Read(buffer[read:])
		if err != nil {
			return err
		}
		read += n
		head, body, ok := bytes.Cut(buffer[:read], []byte("\r\n\r\n"))
		if !ok {
			continue
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
			return errors.New(string(head))
		}
		length := -1
		if _, after, ok := bytes.Cut(head, []byte("Content-Length: ")); ok {
			length = 0
			for _, c := range after {
				if c < '0' || c > '9' {
					break
				}
				length = length*10 + int(c-'0')
			}
		}
		if length >= 0 && len(body) >= length || length < 0 && bytes.HasSuffix(body, []byte("\r\n0\r\n\r\n")) {
			return nil
		}
	}
}

// BenchmarkReadyWithVaultHung is 40 probes at a time while Vault accepts and does
// not answer; one operation is such a round.
func BenchmarkReadyWithVaultHung(b *testing.B) {
	hung := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hung.Close()
	defer hung.CloseClientConnections()
	d := newDependencies(b)
	p := launch(b, build(b, "coffeebuddy/function"), "VAULT_ADDR="+hung.URL, "VAULT_TOKEN=s", "ORY_BASE_URL="+d.ory.URL, "COFFEEBUDDY_CHECK_TIMEOUT=10s")
	defer p.stop()
	p.listening(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}}
	var mu sync.Mutex
	var took []time.Duration
	for b.Loop() {
		var probes sync.WaitGroup
		for range 40 {
			probes.Go(func() {
				asked := time.Now()
				resp, err := client.Get(p.url + "/health/ready")
				if err != nil {
					b.Error(err)
					return
				}
				resp.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(asked))
			})
		}
		probes.Wait()
	}
	report(b, took)
}

// BenchmarkColdStart is from exec to the first 200 of GET /health/live.
func BenchmarkColdStart(b *testing.B) {
	for name, pkg := range map[string]string{"bare": "coffeebuddy/function/testdata/bare", "function": "coffeebuddy/function"} {
		b.Run(name, func(b *testing.B) {
			binary := build(b, pkg)
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				p := launch(b, binary)
				for {
					conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
					if err != nil {
						time.Sleep(50 * time.Microsecond) // a busy loop would take a processor from what is measured
						continue
					}
					err = exchange(conn, "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", make([]byte, 4096))
					conn.Close()
					if err != nil {
						b.Fatal(err)
					}
					break
				}
				took = append(took, time.Since(began))
				p.stop()
			}
			report(b, took)
		})
	}
}

// BenchmarkSize reports the binary's size and the resident memory of a function that
// is ready and idle.
func BenchmarkSize(b *testing.B) {
	binary := build(b, "coffeebuddy/function")
	content, err := os.ReadFile(binary)
	if err != nil {
		b.Fatal(err)
	}
	var compressed bytes.Buffer
	z := gzip.NewWriter(&compressed) // as an image's layer is
	_, _ = z.Write(content)
	_ = z.Close()
	d := newDependencies(b)
	p := launch(b, binary, "VAULT_ADDR="+d.vault.URL, "VAULT_TOKEN=s", "ORY_BASE_URL="+d.ory.URL)
	defer p.stop()
	p.listening(b)
	if code, body := get(b, p.url+"/health/ready"); code != http.StatusOK {
		b.Fatal(body)
	}
	resident := 0.0
	for b.Loop() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
		if err != nil {
			b.Skip("no /proc here")
		}
		_, after, _ := strings.Cut(string(status), "VmRSS:")
		if _, err := fmt.Sscanf(after, "%f kB", &resident); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(content))/1e6, "MB")
	b.ReportMetric(float64(compressed.Len())/1e6, "MB-gzip")
	b.ReportMetric(resident/1024, "MiB-resident")
}

// report adds the spread of what was measured, in milliseconds.
func report(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took[len(took)/2]), "ms-p50")
	b.ReportMetric(ms(took[len(took)*99/100]), "ms-p99")
	b.ReportMetric(ms(took[len(took)-1]), "ms-max")
}
