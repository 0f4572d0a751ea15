package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"
)

// event is an event of the built-in receiver, with its data.
func event(data string) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /s\r\nCe-Type: boson.fn\r\n"+
		"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(data), data)
}

// connect opens a connection of a caller who may do anything on it.
func (p *program) connect(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestWhatTheServerRefusesIsCounted(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := start(t).listening(t)
	for _, request := range []string{
		"nonsense\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 40<<10) + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("a:\r\n", 300) + "\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
	} {
		_, err := io.WriteString(p.connect(t), request)
		is.NoErr(err)
	}
	for code, count := range map[int]int{400: 1, 431: 2, 501: 1} {
		series := fmt.Sprintf(`coffeebuddy_http_requests_total{code="%d",method="unknown",route="unmatched"} %d`, code, count)
		eventually(t, func() bool {
			_, metrics := get(t, p.url+"/metrics")
			return strings.Contains(metrics, series+"\n")
		})
	}
}

// TestTerminationDoesNotWaitForCallersWhoDoNothing is that a response that is not read, and
// an event whose body does not come, are no work that is cut off.
func TestTerminationDoesNotWaitForCallersWhoDoNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what, sent string
		times      int
	}{
		{"answers of 64 KiB that are not read", event(strings.Repeat("x", 64<<10)), 20},
		{"scrapes that are not read", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 1000},
		{"an event without its body", strings.TrimRight(event("1"), "1"), 1},
		{"half of an event's body", strings.TrimSuffix(event("12"), "2"), 1},
		{"half of a chunked body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{", 1},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			p := start(t, "COFFEEBUDDY_ECHO=true").listening(t)
			conn := p.connect(t)
			go func() { _, _ = io.WriteString(conn, strings.Repeat(test.sent, test.times)) }() // it may block for good
			eventually(t, func() bool {
				_, metrics := get(t, p.url+"/metrics")
				return strings.Contains(metrics, "coffeebuddy_http_requests_in_flight 2\n") // with the scrape
			})
			is.NoErr(p.Process.Signal(syscall.SIGTERM))
			signalled := time.Now()
			is.Equal(p.exit(t), 0)
			is.True(time.Since(signalled) < 5*time.Second)
			is.Equal(p.stderr.String(), "")
		})
	}
}
