package handler_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

const ordered = "POST / HTTP/1.1\r\nHost: x\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /s\r\n" +
	"Ce-Type: coffee.ordered\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1"

// serve serves on one connection in memory, and returns its other end.
func serve(t *testing.T, h http.Handler) net.Conn {
	t.Helper()
	client, conn := net.Pipe()
	listener := &pipe{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	listener.conns <- conn
	server := &http.Server{Handler: h}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { client.Close(); _ = server.Close() })
	return client
}

// TestDeadlineIsAnsweredOnTheWire: whole, at once, and as the last one on its connection,
// while the receiver runs on.
func TestDeadlineIsAnsweredOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		is.NoErr(f.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(time.Minute)
			reply := event.New() // which nobody gets
			reply.SetType("coffee.served")
			return &reply, nil
		}))
		conn := serve(t, f)
		began := time.Now()
		_, err := io.WriteString(conn, ordered)
		is.NoErr(err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		is.NoErr(err)
		body, err := io.ReadAll(resp.Body)
		is.NoErr(err)
		is.Equal(time.Since(began), 10*time.Second)
		is.Equal(resp.StatusCode, 503)
		is.Equal(string(body), `{"error":"timeout"}`+"\n")
		is.Equal(resp.ContentLength, int64(len(body)))
		is.True(resp.Close)
		synctest.Wait()
		is.Equal(f.series(`coffeebuddy_http_requests_total{code="503",method="POST",route="/"}`), "1")
		is.Equal(f.series(`coffeebuddy_events_total{outcome="timeout"}`), "1")
		is.Equal(f.series("coffeebuddy_events_in_flight"), "1")
		is.Equal(f.series("coffeebuddy_http_requests_in_flight"), "1") // the scrape
		lines := f.logs.Lines(t)
		is.Equal(len(lines), 1+4) // one, and the scrapes
		is.Equal(lines[0]["duration_seconds"], 10.0)

		is.NoErr(f.Wait(t.Context()))
		is.Equal(time.Since(began), time.Minute)
		rest, err := io.ReadAll(conn)
		is.NoErr(err)
		is.Equal(len(rest), 0) // nothing after the response
		is.Equal(f.series(`coffeebuddy_events_total{outcome="accepted"}`), "0")
		is.Equal(f.series(`coffeebuddy_http_requests_total{code="503",method="POST",route="/"}`), "1")
	})
}

// TestReceiverThatEndsItsGoroutine has an answer, too, though it is net/http's goroutine.
func TestReceiverThatEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.EventsInFlight = 1 })
	is.NoErr(f.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) {
		runtime.Goexit()
		return nil, nil
	}, events.Deduplicate(time.Hour)))
	server := httptest.NewServer(f)
	defer server.Close()
	for range 3 {
		resp := raw(t, server.Listener.Addr(), ordered, "POST")
		is.Equal(resp.StatusCode, 500)
		body, err := io.ReadAll(resp.Body)
		is.NoErr(err)
		is.Equal(string(body), `{"error":"failed"}`+"\n")
		is.True(resp.Close)
		eventually(t, func() bool { return f.series("coffeebuddy_events_in_flight") == "0" })
	}
	eventually(t, func() bool { return f.series(`coffeebuddy_events_total{outcome="failed"}`) == "3" })
	is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
	is.Equal(f.series(`coffeebuddy_http_requests_total{code="500",method="POST",route="/"}`), "3")
}

// TestSenderWhoDoesNotReadHoldsItsSlot, and with it what bounds the responses in memory.
func TestSenderWhoDoesNotReadHoldsItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		reply := event.New()
		reply.SetType("coffee.served")
		is.NoErr(reply.SetData("text/plain", []byte(strings.Repeat("x", 1<<20))))
		is.NoErr(f.On("coffee.ordered", answering(&reply, nil)))
		conn := serve(t, f)
		_, err := io.WriteString(conn, ordered)
		is.NoErr(err)
		time.Sleep(time.Minute)
		is.Equal(f.series("coffeebuddy_events_in_flight"), "1")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		is.NoErr(err)
		n, err := io.Copy(io.Discard, resp.Body)
		is.NoErr(err)
		is.Equal(n, int64(1<<20))
		synctest.Wait()
		is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
	})
}

// TestAnswerOrDeadline ends receivers at their deadlines: there is one whole response to each.
func TestAnswerOrDeadline(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.Timeout = 10 * time.Millisecond })
	is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		deadline, _ := ctx.Deadline()
		time.Sleep(time.Until(deadline))
		return nil, nil
	}))
	server := httptest.NewServer(f)
	defer server.Close()
	for range 50 {
		resp := raw(t, server.Listener.Addr(), ordered, "POST")
		is.True(resp.StatusCode == 204 || resp.StatusCode == 503)
		_, err := io.Copy(io.Discard, resp.Body)
		is.NoErr(err)
	}
}

// TestSenderWhoLeavesIsNoError of ours: whatever its receiver makes of that, it is abandoned.
func TestSenderWhoLeavesIsNoError(t *testing.T) {
	t.Parallel()
	for when, test := range map[string]struct {
		receive events.Receiver
		outcome string
		code    string
	}{
		"an error of its context": {func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, "abandoned", "499"},
		"an error in a driver's own words": {func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			return nil, errors.New("canceling statement due to user request")
		}, "abandoned", "499"},
		"an error of a context below it": {func(ctx context.Context, _ event.Event) (*event.Event, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}, "abandoned", "499"},
		"a refusal": {func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			return nil, events.Permanent(ctx.Err())
		}, "rejected", "422"},
		"no error": {func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			return nil, nil
		}, "accepted", "204"},
		"a panic": {func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			panic("canary")
		}, "failed", "500"},
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			f := newFunction(t)
			entered := make(chan struct{})
			is.NoErr(f.On("coffee.ordered", func(ctx context.Context, e event.Event) (*event.Event, error) {
				close(entered)
				return test.receive(ctx, e)
			}))
			server := httptest.NewServer(f)
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			is.NoErr(err)
			_, err = io.WriteString(conn, ordered)
			is.NoErr(err)
			<-entered
			conn.Close()
			eventually(t, func() bool {
				return f.series(`coffeebuddy_http_requests_total{code="`+test.code+`",method="POST",route="/"}`) == "1"
			})
			is.Equal(f.series(`coffeebuddy_events_total{outcome="`+test.outcome+`"}`), "1")
			timed := "1"
			if test.code == "499" {
				timed = "0" // nobody waited that long
			}
			is.Equal(f.series(`coffeebuddy_http_request_duration_seconds_count{method="POST",route="/"}`), timed)
		})
	}
}

// TestSenderWhoClosedItsSideIsToldToComeBack: it looks like one who left, and reads.
func TestSenderWhoClosedItsSideIsToldToComeBack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	server := httptest.NewServer(f)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	is.NoErr(err)
	defer conn.Close()
	_, err = io.WriteString(conn, ordered)
	is.NoErr(err)
	is.NoErr(conn.(*net.TCPConn).CloseWrite())
	answer, err := io.ReadAll(conn)
	is.NoErr(err)
	is.True(strings.HasPrefix(string(answer), "HTTP/1.1 503 "))
	is.True(strings.HasSuffix(string(answer), `{"error":"abandoned"}`+"\n"))
}
