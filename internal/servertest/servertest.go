// Package servertest has servers that misbehave below HTTP, a log to look into, and free ports, for
// the tests of the clients, of the checks and of the function.
package servertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
)

// HandWritten serves each connection by a function, without being an HTTP server, and
// returns its URL.
func HandWritten(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return "http://" + listener.Addr().String()
}

// FreePort returns a port of loopback on which nobody listens, for a program that is told its port.
// It is below the ports that systems give to outgoing connections, any of which could take it before
// the program does, and above those that test/devstack reserves.
func FreePort(t testing.TB) int {
	t.Helper()
	const first, last = 30000, 32767
	for range 1000 {
		port := first + rand.IntN(last-first+1) //nolint:gosec // no secret
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatalf("no port from %d to %d is free", first, last)
	return 0
}

// After reads what the client sends first, writes an answer and closes.
func After(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, answer)
	}
}

// Hang holds a connection until the client gives up.
func Hang(conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(io.Discard, conn)
}

// Logs collects JSON lines from several goroutines.
type Logs struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

// Logger returns a logger that writes to the buffer, at every level.
func (l *Logs) Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *Logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(line)
}

func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// Reset forgets what was collected.
func (l *Logs) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines.Reset()
}

// Lines returns the lines, decoded.
func (l *Logs) Lines(t testing.TB) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(l.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}
