package connections_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coffeebuddy/handler/connections"

	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// serve serves a handler within bounds until the test ends.
func serve(t *testing.T, config connections.Config, handler http.HandlerFunc) (*connections.Listener, string) {
	t.Helper()
	return serveNoting(t, config, handler, func(http.ConnState) {}, new(atomic.Int64))
}

// serveNoting is serve, calls noted with each connection's new state once the listener knows it, and
// counts the bytes that were read.
func serveNoting(
	t *testing.T, config connections.Config, handler http.HandlerFunc, noted func(http.ConnState), read *atomic.Int64,
) (*connections.Listener, string) {
	t.Helper()
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := connections.Listen(counting{inner, read}, config)
	state := func(c net.Conn, state http.ConnState) {
		l.State(c, state)
		noted(state)
	}
	server := &http.Server{Handler: l.Handler(handler), ConnContext: l.Context, ConnState: state, ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 32 << 10}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l, inner.Addr().String()
}

// counting counts the bytes that are read of its connections.
type counting struct {
	net.Listener

	read *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c.(*net.TCPConn), l.read}, nil
}

type countingConn struct {
	*net.TCPConn

	read *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func ok(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "ok")
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// ask sends a request and returns the status of its response, 0 for a closed connection.
func ask(c net.Conn, request string) int {
	if _, err := io.WriteString(c, request); err != nil {
		return 0
	}
	return answer(bufio.NewReader(c))
}

func answer(r *bufio.Reader) int {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// closed reports whether the server has closed a connection on which nothing is asked.
func closed(c net.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	return err != nil
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// metric returns the value of one of the listener's two metrics.
func metric(t *testing.T, l *connections.Listener, name string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(l)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestTheLongestSilentOrIdleConnectionMakesRoom(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l, address := serve(t, connections.Config{Limit: 3}, ok)
	idle, silent, half := dial(t, address), dial(t, address), dial(t, address)
	eventually(t, "three connections", func() bool { return metric(t, l, "coffeebuddy_connections") == 3 })
	is.Equal(ask(idle, get), 200) // and is idle from now on, for less long than silent is silent
	_, _ = io.WriteString(half, "GET / HTTP/1.1\r\n")

	is.Equal(ask(dial(t, address), get), 200)
	is.True(closed(silent))
	is.Equal(ask(dial(t, address), get), 200)
	is.True(closed(half)) // which sent half a header
	is.Equal(ask(idle, get), 200)
	is.Equal(metric(t, l, "coffeebuddy_connections"), 3.0)
	is.Equal(metric(t, l, "coffeebuddy_connections_shed_total"), 2.0)
}

func TestABodyThatDoesNotComeMakesRoom(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l, address := serve(t, connections.Config{Limit: 2}, ok)
	for range 2 {
		_, _ = io.WriteString(dial(t, address), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1")
	}
	eventually(t, "two connections", func() bool { return metric(t, l, "coffeebuddy_connections") == 2 })
	is.Equal(ask(dial(t, address), get), 200)
}

// TestABodyOverLoopbackIsNotHeldUp: that is where queue-proxy sends from, in large segments.
func TestABodyOverLoopbackIsNotHeldUp(t *testing.T) {
	is := is.New(t)
	_, address := serve(t, connections.Config{}, ok)
	request := "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("x", 1<<20)
	fastest := time.Minute
	for range 5 {
		began := time.Now()
		is.Equal(ask(dial(t, address), request), 200)
		fastest = min(fastest, time.Since(began))
	}
	is.True(fastest < time.Second) // a body that is held up takes some seconds
}

// TestBodiesThatDoNotComeAreLimited to an eighth of the connections: each costs more than one
// that waits for a request.
func TestBodiesThatDoNotComeAreLimited(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	waits := make(chan bool)
	l, address := serve(t, connections.Config{Limit: 400}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			waits <- true
		}
		ok(w, r)
	})
	idle := dial(t, address)
	var late []net.Conn
	for range 150 {
		c := dial(t, address)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1")
		<-waits // so that the server knows them in this order
		late = append(late, c)
	}
	eventually(t, "some are closed", func() bool { return metric(t, l, "coffeebuddy_connections_shed_total") >= 50 })
	is.True(metric(t, l, "coffeebuddy_connections") <= 101)
	is.True(closed(late[0]))
	is.Equal(ask(late[149], "23456789"), 200)
	is.Equal(ask(idle, get), 200) // which has been waiting longer than all of them, for less
}

// TestAFloodWaitsForMemory: new connections wait until net/http has closed what was closed for them.
func TestAFloodWaitsForMemory(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	is.NoErr(err)
	l := connections.Listen(inner, connections.Config{Limit: 2})
	defer l.Close()
	accepted := make(chan net.Conn, 500)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	began := time.Now()
	for range 135 {
		dial(t, inner.Addr().String())
	}
	var all []net.Conn
	for range 135 {
		all = append(all, <-accepted)
	}
	is.True(time.Since(began) > 300*time.Millisecond) // the last four each waited
	for _, c := range all {
		_ = c.Close() // most are closed
	}
	began = time.Now()
	for range 100 {
		dial(t, inner.Addr().String())
		_ = (<-accepted).Close()
	}
	is.True(time.Since(began) < 9*time.Second) // if each of them waited it would take 10 s
}

func TestWhatIsServedIsNeverClosed(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	entered, release := make(chan bool), make(chan bool)
	_, address := serve(t, connections.Config{Limit: 2}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			entered <- true
			<-release
		}
		_, _ = io.WriteString(w, "ok")
	})
	statuses := make(chan int)
	for range 2 {
		c := dial(t, address)
		go func() { statuses <- ask(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1") }()
		<-entered
	}
	is.Equal(ask(dial(t, address), get), 0) // the new one has to go
	close(release)
	is.Equal(<-statuses, 200)
	is.Equal(<-statuses, 200)
	eventually(t, "room for another", func() bool { return ask(dial(t, address), get) == 200 }) // net/http ends a request after its response
}

func TestManyFieldsAreRefused(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var refused atomic.Int64
	_, address := serve(t, connections.Config{Refused: func(status int) { refused.Store(int64(status)) }}, ok)
	header := func(fields int, end string) string {
		return "GET / HTTP/1.1" + end + "Host: h" + end + strings.Repeat("a:"+end, fields) + end
	}
	for _, end := range []string{"\r\n", "\n"} {
		is.Equal(ask(dial(t, address), header(254, end)), 200)
		is.Equal(refused.Swap(0), int64(0))
		is.Equal(ask(dial(t, address), header(255, end)), 431)
		is.Equal(refused.Swap(0), int64(431))
		is.Equal(ask(dial(t, address), header(9000, end)), 431)
		refused.Store(0)
	}
	is.Equal(ask(dial(t, address), "GET / HTTP/1.1\r\nHost: h\r\nA: "+strings.Repeat("a", 40<<10)+"\r\n\r\n"), 431) // net/http's own
	eventually(t, "it is counted", func() bool { return refused.Load() == 431 })
	is.Equal(ask(dial(t, address), "nonsense\r\n\r\n"), 400)
	eventually(t, "it is counted", func() bool { return refused.Load() == 400 })
}

// TestManyFieldsAreRefusedWhereverTheyAre: behind what fills all but a byte of net/http's buffer,
// and behind another request, whole or in part.
func TestManyFieldsAreRefusedWhereverTheyAre(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var read atomic.Int64
	_, address := serveNoting(t, connections.Config{}, ok, func(http.ConnState) {}, &read)
	fields := strings.Repeat("a:\r\n", 400)
	c := dial(t, address)
	_, _ = io.WriteString(c, "GET /"+strings.Repeat("a", 4090))
	eventually(t, "all but a byte of the buffer is full", func() bool { return read.Load() == 4095 })
	is.Equal(ask(c, " HTTP/1.1\r\nHost: h\r\n"+fields+"\r\n"), 431)
	for before, request := range map[string]string{
		"no body":        get,
		"a body":         "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n123456789",
		"a longer body":  "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4500\r\n\r\n" + strings.Repeat("1", 4500),
		"several bodies": "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1" + get + get,
	} {
		for _, end := range []string{"\r\n", "", fields + "\r\n"} { // whole, or ended by more, or not even begun
			t.Run(before, func(t *testing.T) {
				is := is.New(t)
				c := dial(t, address)
				_, _ = io.WriteString(c, request+"GET / HTTP/1.1\r\nHost: h\r\n"+fields+end)
				r, status := bufio.NewReader(c), 0
				for answered := range 4 {
					if status = answer(r); status != 200 {
						break
					}
					if end == "" && answered == strings.Count(request, "HTTP/1.1")-1 {
						_, _ = io.WriteString(c, "\r\n")
					}
				}
				is.Equal(status, 431)
			})
		}
	}
}

// TestABodyIsWaitedForFromItsHeaderOn: a connection that was idle for long is not the first to make
// room once it has a request.
func TestABodyIsWaitedForFromItsHeaderOn(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	const begun = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1"
	var read atomic.Int64
	l, address := serveNoting(t, connections.Config{Limit: 8}, ok, func(http.ConnState) {}, &read)
	kept := dial(t, address)
	is.Equal(ask(kept, get), 200)
	var silent []net.Conn
	for range 7 {
		silent = append(silent, dial(t, address))
	}
	eventually(t, "all are open", func() bool { return metric(t, l, "coffeebuddy_connections") == 8 })
	_, _ = io.WriteString(kept, begun)
	eventually(t, "its header was read", func() bool { return read.Load() == int64(len(get+begun)) })
	is.Equal(ask(dial(t, address), get), 200)
	is.True(closed(silent[0]))
	is.Equal(ask(kept, "2"), 200)
}

// TestBodiesAreNoHeaders, however many lines they have, one after the other and ahead of
// their turn.
func TestBodiesAreNoHeaders(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	_, address := serve(t, connections.Config{}, ok)
	for _, lines := range []int{1, 300, 5000, 500000} {
		body := strings.Repeat("\n", lines)
		post := fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		chunked := fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		c := dial(t, address)
		r := bufio.NewReader(c)
		go func() { _, _ = io.WriteString(c, strings.Repeat(post+chunked+get, 3)) }()
		for range 9 {
			is.Equal(answer(r), 200)
		}
	}
	// Byte by byte, a blank line is found wherever it is cut.
	c := dial(t, address)
	go func() {
		for _, b := range []byte("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 600\r\n\r\n" + strings.Repeat("\r\n", 300)) {
			_, _ = c.Write([]byte{b})
		}
	}()
	is.Equal(answer(bufio.NewReader(c)), 200)
}

// TestOutsizedHeadersMakeRoom for small ones: all of them together have a bound.
func TestOutsizedHeadersMakeRoom(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l, address := serve(t, connections.Config{}, ok)
	large := "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("a:b\r\n", 200) + "B: " + strings.Repeat("b", 28<<10) + "\r\n"
	first := dial(t, address)
	_, _ = io.WriteString(first, large)
	for range 400 { // 60 kB each
		_, _ = io.WriteString(dial(t, address), large)
	}
	is.True(closed(first))
	eventually(t, "some are closed", func() bool { return metric(t, l, "coffeebuddy_connections_shed_total") > 10 })
	is.Equal(ask(dial(t, address), get), 200)
	is.Equal(ask(dial(t, address), large+"\r\n"), 200)
}

func TestAResponseThatIsNotReadEnds(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ended := make(chan time.Duration, 1)
	_, address := serve(t, connections.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		began := time.Now()
		_, err := w.Write(make([]byte, 16<<20))
		if err != nil {
			ended <- time.Since(began)
		}
	})
	c := dial(t, address)
	_, _ = io.WriteString(c, get)
	took := <-ended
	is.True(took > 4*time.Second && took < 12*time.Second)
}

// TestAResponseThatIsNotReadMakesRoom for a new connection long before it times out.
func TestAResponseThatIsNotReadMakesRoom(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	const size = 16 << 20
	l, address := serve(t, connections.Config{Limit: 2}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = w.Write(make([]byte, size))
		}
	})
	var unread []net.Conn
	for range 2 {
		c := dial(t, address)
		_, _ = io.WriteString(c, "GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
		_, err := io.ReadFull(c, make([]byte, 1)) // it has begun
		is.NoErr(err)
		unread = append(unread, c)
	}
	eventually(t, "there is room", func() bool { return ask(dial(t, address), get) == 200 })
	is.True(metric(t, l, "coffeebuddy_connections_shed_total") > 0) // a write that times out is not counted
	whole := 0
	for _, c := range unread {
		if n, _ := io.CopyN(io.Discard, c, size); n == size {
			whole++
		}
	}
	is.Equal(whole, 1) // the other goes on
}

// TestResponsesThatAreNotReadAreLimited to an eighth of the connections.
func TestResponsesThatAreNotReadAreLimited(t *testing.T) {
	t.Parallel()
	large := make([]byte, 8<<20)
	l, address := serve(t, connections.Config{Limit: 400}, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(large)
	})
	for range 150 {
		_, _ = io.WriteString(dial(t, address), get)
	}
	eventually(t, "some are closed", func() bool {
		_, _ = io.WriteString(dial(t, address), get)
		return metric(t, l, "coffeebuddy_connections_shed_total") >= 50 // a write that times out is not counted
	})
}

func TestAResponseThatIsReadSlowlyGoesOn(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	const size = 8 << 20
	_, address := serve(t, connections.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(make([]byte, size))
	})
	resp, err := http.Get("http://" + address)
	is.NoErr(err)
	defer resp.Body.Close()
	read := 0
	for { // a megabyte a second
		n, err := io.CopyN(io.Discard, resp.Body, 1<<20)
		if read += int(n); err != nil {
			break
		}
		<-time.After(time.Second)
	}
	is.Equal(read, size) // after longer than a write may take without progress
}

func TestDrain(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	entered, ended, idles := make(chan bool, 9), make(chan error, 9), make(chan bool, 9)
	l, address := serveNoting(t, connections.Config{}, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		_, err := io.Copy(io.Discard, r.Body)
		if err == nil && r.URL.Path == "/large" {
			_, err = w.Write(make([]byte, 16<<20))
		}
		ended <- err
	}, func(state http.ConnState) {
		if state == http.StateIdle {
			idles <- true
		}
	}, new(atomic.Int64))
	silent, idle := dial(t, address), dial(t, address)
	is.Equal(ask(idle, get), 200)
	<-entered
	is.NoErr(<-ended)
	// The client has the response before net/http reports that the connection is idle.
	<-idles
	_, _ = io.WriteString(dial(t, address), "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1") // and no more
	_, _ = io.WriteString(dial(t, address), "GET /large HTTP/1.1\r\nHost: h\r\n\r\n")                   // and reads nothing
	<-entered
	<-entered
	began := time.Now()
	l.Drain()
	is.True(closed(silent))
	is.True(closed(idle))
	is.True(time.Since(began) < 2*time.Second) // what the other two have
	is.True(<-ended != nil)
	is.True(<-ended != nil)
	is.True(time.Since(began) < 5*time.Second) // when the write would time out
}

func TestMetricsAreLinted(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l, _ := serve(t, connections.Config{}, ok)
	problems, err := testutil.CollectAndLint(l)
	is.NoErr(err)
	is.Equal(len(problems), 0)
}

// TestWithoutAServer there is nothing to note: a handler of a test has no connection.
func TestWithoutAServer(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	is.NoErr(err)
	defer inner.Close()
	w := httptest.NewRecorder()
	connections.Listen(inner, connections.Config{}).Handler(http.HandlerFunc(ok)).ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", http.NoBody))
	is.Equal(w.Code, 200)
}
