package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"
)

// eventHead is an event up to its data, as it is sent.
const eventHead = "POST / HTTP/1.1\r\nHost: function\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /storm\r\nCe-Type: boson.fn\r\nContent-Type: application/json\r\n"

// TestStorm is 10,000 clients that reset their connection, wherever they happen to be. It is not parallel to others: it measures time.
func TestStorm(t *testing.T) {
	const clients, atATime = 10_000, 100
	is := is.New(t)
	f := start(t, "COFFEEBUDDY_LOG_LEVEL=info")
	for range 100 {
		f.event(t)
	}
	before := f.goroutines(t)

	event := eventHead + "Content-Length: 15\r\n\r\n" + `{"a":"a coffee"}`
	began := time.Now()
	var storm sync.WaitGroup
	var sent, refused atomic.Int64
	for first := range atATime {
		storm.Go(func() {
			for i := first; i < clients; i += atATime {
				if err := reset(f, event[:len(event)*(i%11)/10]); err != nil {
					refused.Add(1)
					continue
				}
				sent.Add(1)
			}
		})
	}
	storm.Wait()
	t.Logf("%d clients reset their connection in %s, %d could not", sent.Load(), time.Since(began).Round(time.Millisecond), refused.Load())
	is.Equal(sent.Load(), int64(clients))

	// A hundred in a row. What wedges stays wedged; a machine that is busy with other tests gets another hundred.
	eventually(t, 10*time.Second, func() bool {
		var slowest time.Duration
		for range 100 {
			slowest = max(slowest, f.event(t))
		}
		t.Logf("of 100 events after that, the slowest took %s", slowest.Round(10*time.Microsecond))
		return slowest < 50*time.Millisecond
	})
	eventually(t, soon, func() bool { return f.goroutines(t) <= before })
	is.Equal(f.metrics(t.Context(), t)["coffeebuddy_events_in_flight"], 0.0)
}

// goroutines returns how many the function has.
func (f *function) goroutines(t *testing.T) int {
	return int(f.metrics(t.Context(), t)["go_goroutines"])
}

// reset connects, sends, and resets the connection.
func reset(f *function, request string) error {
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	return cutOff(conn)
}

// cutOff closes a connection by a reset.
func cutOff(conn net.Conn) error {
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	return conn.Close()
}

// event sends an event that must be answered, and returns how long that took.
func (f *function) event(t *testing.T) time.Duration {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url, strings.NewReader(`{"a":"a coffee"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Specversion": "1.0", "Id": "1", "Source": "/storm", "Type": "boson.fn"} {
		request.Header.Set("Ce-"+name, value)
	}
	request.Header.Set("Content-Type", "application/json")
	began := time.Now()
	response, err := f.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("an event was answered %d", response.StatusCode)
	}
	return time.Since(began)
}

// TestEndlessBody is a body of 1 GiB in chunks, in each mode. It is not parallel to others: it measures memory.
func TestEndlessBody(t *testing.T) {
	const growth = 8 << 20
	f := start(t, "COFFEEBUDDY_LOG_LEVEL=info")
	for range 100 {
		f.event(t)
	}
	for _, head := range []string{eventHead, "POST / HTTP/1.1\r\nHost: function\r\nContent-Type: application/cloudevents+json\r\n"} {
		is := is.New(t)
		before := f.resident(t)
		peak := f.watchMemory(t)
		taken, answer := stream(t, f, head)
		highest := peak()
		t.Logf("of 1 GiB %.1f MiB were taken, then %q; resident memory rose from %.1f to %.1f MiB",
			float64(taken)/(1<<20), answer, float64(before)/(1<<20), float64(highest)/(1<<20))
		is.Equal(answer, "HTTP/1.1 413 Request Entity Too Large")
		is.True(highest-before <= growth)
		f.event(t)
	}
}

// stream sends a body of 1 GiB until the function has enough, and returns how much it took, and the first line of its answer.
func stream(t *testing.T, f *function, head string) (taken int, answer string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answered := make(chan string, 1)
	go func() {
		line := make([]byte, 256)
		n, _ := io.ReadAtLeast(conn, line, 64)
		first, _, _ := bytes.Cut(line[:n], []byte("\r\n"))
		answered <- string(first)
	}()
	if _, err := io.WriteString(conn, head+"Transfer-Encoding: chunked\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", 64<<10, bytes.Repeat([]byte(" "), 64<<10))
	for taken < 1<<30 {
		if _, err := conn.Write(chunk); err != nil {
			break // closed on us
		}
		taken += 64 << 10
	}
	return taken, <-answered
}

// resident returns the function's resident memory, in bytes.
func (f *function) resident(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", f.PID()))
	if err != nil {
		t.Skip("no /proc here to read memory from")
	}
	var size, pages int
	if _, err := fmt.Sscan(string(statm), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// watchMemory returns a function that ends the watch and returns the most that was resident meanwhile.
func (f *function) watchMemory(t *testing.T) func() int {
	ctx, cancel := context.WithCancel(t.Context())
	most := make(chan int)
	go func() {
		highest := 0
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			highest = max(highest, f.resident(t))
			select {
			case <-tick.C:
			case <-ctx.Done():
				most <- highest
				return
			}
		}
	}()
	return func() int { cancel(); return <-most }
}
