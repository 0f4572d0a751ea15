package sink_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/events/sink"
	"coffeebuddy/internal/servertest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// paid returns an event without id, source and time.
func paid() event.Event {
	e := event.New()
	e.SetType("coffee.paid")
	e.SetSubject("a cup of café")
	_ = e.SetData("application/json", map[string]int{"cents": 250})
	return e
}

// newEvents returns what a feature sends with, to a sink.
func newEvents(t testing.TB, c sink.Config) (*events.Engine, *sink.Sender) {
	t.Helper()
	if c.TokenFile == "" {
		c.TokenFile = filepath.Join(t.TempDir(), "none")
	}
	sender, err := sink.New(c)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := events.New(events.Config{App: "kitchen", Sender: sender})
	if err != nil {
		t.Fatal(err)
	}
	return engine, sender
}

// outcome returns what a receiver that returns the error makes of its event.
func outcome(err error) events.Verdict { return events.Refusal(context.Background(), err) }

func TestEventArrivesWhole(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	overrides := map[string]string{"region": "nord süd", "stage": "overridden"}
	engine, _ := newEvents(t, sink.Config{URL: server.URL + "/ns/default?a=b", Overrides: overrides})
	e := paid()
	e.Context.(*event.EventContextV1).Extensions = map[string]any{"Stage": "own", "table": int32(7)}
	ctx := events.WithCorrelation(t.Context(), &events.Correlation{Traceparent: traceparent})
	is.NoErr(engine.Send(ctx, e))
	is.Equal(got.Method+" "+got.URL.String(), "POST /ns/default?a=b")
	is.Equal(string(body), `{"cents":250}`)
	is.True(got.Header.Get("Ce-Id") != "")
	is.True(got.Header.Get("Ce-Time") != "")
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Type": "coffee.paid", "Ce-Source": "//coffeebuddy/kitchen",
		"Ce-Subject": "a%20cup%20of%20caf%C3%A9", "Ce-Traceparent": traceparent, "Traceparent": traceparent,
		"Ce-Table": "7", "Ce-Region": "nord%20s%C3%BCd", "Ce-Stage": "overridden", "Authorization": "",
	} {
		is.Equal(strings.Join(got.Header.Values(name), ", "), value) // name
	}
	is.Equal(e.Extensions()["Stage"], "own") // the caller's event is left alone
	is.Equal(len(e.Extensions()), 2)
}

// A response is one that a sink gives, in its turn.
type response struct {
	status     int
	retryAfter string
}

// TestRetries is Knative's table: what is sent again, when, and what the caller is told.
func TestRetries(t *testing.T) {
	t.Parallel()
	const times = 3
	for _, test := range []struct {
		name      string
		responses []response // the last one for good
		within    time.Duration
		attempts  int // at most, and as many unless it is 0
		outcome   events.Outcome
		after     time.Duration // that the error asks for
		took      time.Duration // at least
	}{
		{"200 accepts", []response{{status: 200}}, time.Second, 1, events.Accepted, 0, 0},
		{"299 accepts", []response{{status: 299}}, time.Second, 1, events.Accepted, 0, 0},
		{"404 is retried", []response{{status: 404}, {status: 202}}, time.Second, 2, events.Accepted, 0, 0},
		{"408 is retried", []response{{status: 408}, {status: 202}}, time.Second, 2, events.Accepted, 0, 0},
		{"409 is retried", []response{{status: 409}, {status: 202}}, time.Second, 2, events.Accepted, 0, 0},
		{"429 is retried", []response{{status: 429}, {status: 202}}, time.Second, 2, events.Accepted, 0, 0},
		{"500 is retried", []response{{status: 500}, {status: 503}, {status: 599}, {status: 202}}, time.Second, 4, events.Accepted, 0, 0},
		{"400 is final", []response{{status: 400}}, time.Second, 1, events.Rejected, 0, 0},
		{"401 is final", []response{{status: 401}}, time.Second, 1, events.Rejected, 0, 0},
		{"413 is final", []response{{status: 413}}, time.Second, 1, events.Rejected, 0, 0},
		{"422 is final", []response{{status: 422}}, time.Second, 1, events.Rejected, 0, 0},
		{"a redirect is final", []response{{status: 307}}, time.Second, 1, events.Rejected, 0, 0},
		{"304 is final", []response{{status: 304}}, time.Second, 1, events.Rejected, 0, 0},
		{"a final response ends retries", []response{{status: 503}, {status: 400}}, time.Second, 2, events.Rejected, 0, 0},
		{"Retry-After is heeded", []response{{429, "2"}, {status: 202}}, 10 * time.Second, 2, events.Accepted, 0, 2 * time.Second},
		{"Retry-After of 0 is the backoff", []response{{503, "0"}, {status: 202}}, time.Second, 2, events.Accepted, 0, 25 * time.Millisecond},
		{"a malformed Retry-After is none", []response{{503, "-7"}, {503, "soon"}, {status: 202}}, time.Second, 3, events.Accepted, 0, 0},
		{"Retry-After as a date", []response{{503, "Sat, 01 Jan 2000 00:00:05 GMT"}, {status: 202}}, 10 * time.Second, 2, events.Accepted, 0, 5 * time.Second},
		{"a date that is past is none", []response{{503, "Fri, 31 Dec 1999 00:00:00 GMT"}, {status: 202}}, time.Second, 2, events.Accepted, 0, 0},
		{"Retry-After beyond the deadline is the caller's", []response{{503, "40"}}, 10 * time.Second, 1, events.Retry, 40 * time.Second, 0},
		{"an endless Retry-After is an hour", []response{{503, "18446744073709551615"}}, 10 * time.Second, 1, events.Retry, time.Hour, 0},
		{"the deadline ends retries", []response{{status: 503}}, 5 * time.Second, 0, events.Retry, time.Second, 1 * time.Second},
		{"without a deadline it is a minute", []response{{status: 503}}, 0, 0, events.Retry, time.Second, 50 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for range times {
				synctest.Test(t, func(t *testing.T) {
					is := is.New(t)
					var attempts int
					var id string
					engine := inBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						next := test.responses[min(attempts, len(test.responses)-1)]
						attempts++
						is.True(id == "" || id == r.Header.Get("Ce-Id")) // the same event each time
						id = r.Header.Get("Ce-Id")
						if next.retryAfter != "" {
							w.Header().Set("Retry-After", next.retryAfter)
						}
						w.Header().Set("Location", "/elsewhere")
						w.WriteHeader(next.status)
					}))
					ctx := t.Context()
					if test.within > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, test.within)
						defer cancel()
					}
					began := time.Now()
					err := engine.Send(ctx, paid())
					took := time.Since(began)
					is.True(took >= test.took && took <= time.Minute)
					is.True(test.within == 0 || took <= test.within)
					if test.attempts > 0 {
						is.Equal(attempts, test.attempts)
					} else {
						is.True(attempts > 4 && attempts < 40) // with backoff
					}
					if test.outcome == events.Accepted {
						is.NoErr(err)
						return
					}
					is.Equal(outcome(err), events.Verdict{Outcome: test.outcome, RetryAfter: test.after})
				})
			}
		})
	}
}

// inBubble returns what sends to a sink on the clock of the test.
func inBubble(t *testing.T, serve http.Handler) *events.Engine {
	t.Helper()
	engine, sender := newEvents(t, sink.Config{URL: "http://sink.example", InFlight: 2})
	conns := make(chan net.Conn)
	server := &http.Server{Handler: serve, ReadHeaderTimeout: time.Hour}
	closed := make(chan struct{})
	closeIdle := sink.Dial(sender, func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case conns <- theirs:
			return ours, nil
		case <-closed:
			return nil, net.ErrClosed
		}
	})
	go func() { _ = server.Serve(listener{conns, closed}) }()
	t.Cleanup(func() {
		closeIdle()
		close(closed)
		_ = server.Close()
		synctest.Wait()
	})
	return engine
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (listener) Close() error   { return nil }
func (listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// TestBadSinks: each is a clear error that says nothing of the URL, and nothing was accepted.
func TestBadSinks(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(elsewhere.Close)
	redirects := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(redirects.Close)
	small := httptest.NewServer(http.MaxBytesHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}), 4))
	t.Cleanup(small.Close)
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	for _, test := range []struct {
		name, url string
		outcome   events.Outcome
		says      string
	}{
		{"it hangs", servertest.HandWritten(t, servertest.Hang), events.Retry, "timeout: "},
		{"it hangs within its header", servertest.HandWritten(t, hangAfter("HTTP/1.1 202 Accepted\r\n")), events.Retry, "timeout: "},
		{"it resets", servertest.HandWritten(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}), events.Retry, "refused: "},
		{"it closes", servertest.HandWritten(t, func(c net.Conn) { c.Close() }), events.Retry, "refused: "},
		{"it speaks no HTTP", servertest.HandWritten(t, servertest.After("220 mail.example ESMTP\r\n")), events.Retry, "bad_response: "},
		{"its 200 is none", servertest.HandWritten(t, servertest.After("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n")), events.Retry, "bad_response: "},
		{"it switches protocols", servertest.HandWritten(t, servertest.After("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")), events.Rejected, "status 101"},
		{"nobody listens", "http://127.0.0.1:1/path", events.Retry, "refused: "},
		{"nobody has the name", "http://sink.invalid/path", events.Retry, ""},
		{"its certificate is nobody's", untrusted.URL, events.Retry, "tls: "},
		{"it redirects", redirects.URL, events.Rejected, "status 307"},
		{"the event is too large for it", small.URL, events.Rejected, "status 413"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			registry := prometheus.NewRegistry()
			engine, _ := newEvents(t, sink.Config{URL: test.url, Registry: registry})
			timeout := 300 * time.Millisecond // how long Send tries again
			if test.outcome == events.Rejected {
				timeout = 10 * time.Second // the first response ends it
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			err := engine.Send(ctx, paid())
			is.True(err != nil)
			is.Equal(outcome(err).Outcome, test.outcome)
			cutOff := test.outcome == events.Retry && strings.Contains(err.Error(), "timeout: ") // the last attempt, by the deadline
			if !strings.Contains(err.Error(), test.says) && !cutOff {
				t.Errorf("it says %q", err)
			}
			is.True(!strings.Contains(err.Error(), "://") && !strings.Contains(err.Error(), "127.0.0.1") && !strings.Contains(err.Error(), "sink.invalid"))
			sent, refused, failed := counted(is, registry)
			is.Equal(sent, 0.0)
			is.Equal(refused+failed, 1.0)
			is.Equal(refused == 1, test.outcome == events.Rejected)
		})
	}
}

// hangAfter starts an answer and never ends it.
func hangAfter(start string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, start)
		servertest.Hang(conn)
	}
}

// counted returns the series of coffeebuddy_sink_events_total.
func counted(is *is.I, registry *prometheus.Registry) (sent, refused, failed float64) {
	families, err := registry.Gather()
	is.NoErr(err)
	for _, family := range families {
		if family.GetName() != "coffeebuddy_sink_events_total" {
			continue
		}
		for _, series := range family.GetMetric() {
			switch value := series.GetCounter().GetValue(); series.GetLabel()[0].GetValue() {
			case "sent":
				sent = value
			case "refused":
				refused = value
			case "failed":
				failed = value
			}
		}
	}
	return sent, refused, failed
}

// TestAcceptedIsAccepted, whatever the body of the response is, and however long.
func TestAcceptedIsAccepted(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"garbage":           servertest.HandWritten(t, servertest.After("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nCe-Id: x\r\n\r\n<\x00garbage")),
		"a body cut short":  servertest.HandWritten(t, servertest.After("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nshort")),
		"a body that hangs": servertest.HandWritten(t, hangAfter("HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n")),
		"an endless body": servertest.HandWritten(t, func(c net.Conn) {
			defer c.Close()
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for {
				if _, err := io.WriteString(c, "400\r\n"+strings.Repeat("x", 0x400)+"\r\n"); err != nil {
					return
				}
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			engine, _ := newEvents(t, sink.Config{URL: url})
			began := time.Now()
			is.NoErr(engine.Send(t.Context(), paid()))
			is.True(time.Since(began) < 5*time.Second) // 0.1 s, and what a busy machine takes
		})
	}
}

// TestLostConnectionIsRetried: the sink that restarts is not the caller's concern.
func TestLostConnectionIsRetried(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var attempts atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if attempts.Add(1) <= 3 {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	engine, _ := newEvents(t, sink.Config{URL: server.URL})
	is.NoErr(engine.Send(t.Context(), paid()))
	is.Equal(attempts.Load(), int32(4))
}

// TestCallerWhoGivesUp is told so, and its own event comes again.
func TestCallerWhoGivesUp(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	engine, _ := newEvents(t, sink.Config{URL: servertest.HandWritten(t, servertest.Hang)})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	is.Equal(outcome(engine.Send(ctx, paid())).Outcome, events.Retry)
}

// TestReceiversErrorOfSend is a 503 or a 422 for the event that came in.
func TestReceiversErrorOfSend(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var status atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	engine, _ := newEvents(t, sink.Config{URL: server.URL})
	is.NoErr(engine.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) { return nil, engine.Send(ctx, paid()) }))
	in := paid()
	in.SetType("coffee.ordered")
	in.SetID("1")
	in.SetSource("/counter")
	status.Store(http.StatusServiceUnavailable)
	is.Equal(engine.Dispatch(t.Context(), in), events.Verdict{Outcome: events.Retry, RetryAfter: time.Hour})
	status.Store(http.StatusBadRequest)
	is.Equal(engine.Dispatch(t.Context(), in), events.Verdict{Outcome: events.Rejected})
	status.Store(http.StatusAccepted)
	is.Equal(engine.Dispatch(t.Context(), in), events.Verdict{Outcome: events.Accepted})
}

// TestInFlightIsBounded, and so are connections, which are kept and used again.
func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var mu sync.Mutex
	var now, most, opened int
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-release
		mu.Lock()
		now--
		mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			opened++
			mu.Unlock()
		}
	}
	server.Start()
	defer server.Close()
	registry := prometheus.NewRegistry()
	engine, _ := newEvents(t, sink.Config{URL: server.URL, InFlight: 3, Registry: registry})
	problems, err := testutil.GatherAndLint(registry)
	is.NoErr(err)
	is.Equal(len(problems), 0)

	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { is.NoErr(engine.Send(t.Context(), paid())) })
	}
	for arrived := 0; arrived < 3; {
		mu.Lock()
		arrived = now
		mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = engine.Send(ctx, paid())
	is.Equal(outcome(err).Outcome, events.Retry)
	is.True(strings.Contains(err.Error(), "too many events are being sent"))
	close(release)
	group.Wait()
	for range 50 {
		is.NoErr(engine.Send(t.Context(), paid()))
	}
	mu.Lock()
	defer mu.Unlock()
	is.Equal(most, 3)
	is.True(opened <= 3)
	sent, refused, failed := counted(is, registry)
	is.Equal([]float64{sent, refused, failed}, []float64{53, 0, 1})
}

// TestToken is read at each attempt, and is in no error.
func TestToken(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "token")
	engine, _ := newEvents(t, sink.Config{URL: server.URL, TokenFile: path})
	is.NoErr(engine.Send(t.Context(), paid()))
	for _, token := range []string{"first", "second\n"} {
		is.NoErr(os.WriteFile(path, []byte(token), 0o600))
		is.NoErr(engine.Send(t.Context(), paid()))
	}
	is.Equal(got, []string{"", "Bearer first", "Bearer second"})
	for _, unfit := range []string{"", "\n", "canary two", "canary\x00", strings.Repeat("canary", 10_000)} {
		is.NoErr(os.WriteFile(path, []byte(unfit), 0o600))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		err := engine.Send(ctx, paid())
		cancel()
		is.Equal(outcome(err).Outcome, events.Retry) // it may be there at the next attempt
		is.True(!strings.Contains(err.Error(), "canary"))
	}
	is.Equal(len(got), 3)
}

func TestOwnCA(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	defer server.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	engine, _ := newEvents(t, sink.Config{URL: server.URL, CACerts: ca})
	is.NoErr(engine.Send(t.Context(), paid()))
}

// TestWithoutAProxy: the sink is inside, and a proxy would see the token.
func TestWithoutAProxy(t *testing.T) {
	is := is.New(t)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	defer server.Close()
	engine, _ := newEvents(t, sink.Config{URL: server.URL})
	is.NoErr(engine.Send(t.Context(), paid()))
}

func TestUnfitConfig(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]sink.Config{
		"without a URL":              {},
		"a relative URL":             {URL: "/canary"},
		"another scheme":             {URL: "ftp://canary"},
		"a user":                     {URL: "http://canary:canary@sink"},
		"no URL":                     {URL: "http://canary\x7f"},
		"negative in flight":         {URL: "http://sink", InFlight: -1},
		"an override of id":          {URL: "http://sink", Overrides: map[string]string{"id": "canary"}},
		"an override of source":      {URL: "http://sink", Overrides: map[string]string{"source": "canary"}},
		"an override of specversion": {URL: "http://sink", Overrides: map[string]string{"specversion": "1.0"}},
		"an override of time":        {URL: "http://sink", Overrides: map[string]string{"time": "2026-01-01T00:00:00Z"}},
		"an override with capitals":  {URL: "http://sink", Overrides: map[string]string{"ID": "canary"}},
		"an override with a newline": {URL: "http://sink", Overrides: map[string]string{"region": "canary\r\nX: y"}},
		"an override without a name": {URL: "http://sink", Overrides: map[string]string{"": "canary"}},
		"certificates that are none": {URL: "http://sink", CACerts: "canary"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			_, err := sink.New(config)
			is.True(err != nil)
			is.True(!strings.Contains(err.Error(), "canary"))
		})
	}
}

// TestFunctionAsItsOwnSink ends, though each event sends the next one to the same receiver.
func TestFunctionAsItsOwnSink(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var engine *events.Engine
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in := paid()
		in.SetID(r.Header.Get("Ce-Id"))
		in.SetSource("/self")
		ctx, cancel := context.WithTimeout(r.Context(), 200*time.Millisecond)
		defer cancel()
		switch v := engine.Dispatch(ctx, in); v.Outcome {
		case events.Accepted:
			w.WriteHeader(http.StatusNoContent)
		case events.Rejected:
			w.WriteHeader(http.StatusUnprocessableEntity)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	engine, _ = newEvents(t, sink.Config{URL: server.URL, InFlight: 4})
	is.NoErr(engine.On("coffee.paid", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		return nil, engine.Send(ctx, paid())
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := engine.Send(ctx, paid())
	is.True(err != nil && !errors.Is(err, syscall.EMFILE))
	is.Equal(outcome(err).Outcome, events.Retry)
}

func BenchmarkSend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	engine, _ := newEvents(b, sink.Config{URL: server.URL, Overrides: map[string]string{"region": "north"}})
	b.ReportAllocs()
	for b.Loop() {
		if err := engine.Send(b.Context(), paid()); err != nil {
			b.Fatal(err)
		}
	}
}
