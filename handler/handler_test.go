package handler_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/handler/handlertest"
	"coffeebuddy/internal/servertest"

	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// A function is a handler under test, with what it writes.
type function struct {
	*handler.Handler
	*events.Engine
	registry *prometheus.Registry
	logs     *servertest.Logs
}

// Wait is the handler's, which waits for the events, too.
func (f function) Wait(ctx context.Context) error { return f.Handler.Wait(ctx) }

// A config is of both.
type config struct {
	handler.Config
	EventsInFlight int
	Timeout        time.Duration
	Ledger         events.Ledger
}

func newFunction(t testing.TB, change ...func(*config)) function {
	t.Helper()
	f := function{registry: prometheus.NewRegistry(), logs: new(servertest.Logs)}
	config := config{EventsInFlight: 4, Config: handler.Config{
		App: "coffeebuddy", Environment: "test", Version: "v1.2.3", Started: time.Now(),
		Ready: func(context.Context) handler.Readiness {
			return handler.Readiness{Ready: true, JSON: []byte(`{"status":"ready","components":{}}` + "\n")}
		},
		MetricsPath: "/metrics",
		Registry:    f.registry,
		Log:         slog.New(slog.NewJSONHandler(f.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Echo:        true,
	}}
	for _, c := range change {
		c(&config)
	}
	var err error
	if f.Engine, err = events.New(events.Config{
		App: config.App, InFlight: config.EventsInFlight, Timeout: config.Timeout, Ledger: config.Ledger, Registry: config.Registry, Log: config.Log,
	}); err != nil {
		t.Fatal(err)
	}
	config.Events = f.Engine
	if f.Handler, err = handler.New(config.Config); err != nil {
		t.Fatal(err)
	}
	return f
}

// ask answers a request without a network.
func (f function) ask(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL.Path, r.RequestURI = target, target
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return handlertest.Serve(f, r)
}

// series returns the value of a series as the text format names it.
func (f function) series(name string) string {
	value := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (.*)$`)
	found := value.FindStringSubmatch(f.ask("GET", "/metrics", "").Body.String())
	if found == nil {
		return "absent"
	}
	return found[1]
}

func TestHealthAnswers(t *testing.T) {
	t.Parallel()
	ready := handler.Readiness{}
	f := newFunction(t, func(c *config) {
		c.Ready = func(context.Context) handler.Readiness { return ready }
	})
	for _, test := range []struct {
		path  string
		ready handler.Readiness
		code  int
		body  string
		again string
	}{
		{"/health/live", handler.Readiness{}, 200, `{"status":"live"}` + "\n", ""},
		{"/health/ready", handler.Readiness{Ready: true, JSON: []byte("{1}\n")}, 200, "{1}\n", ""},
		{"/health/ready", handler.Readiness{Retry: true, JSON: []byte("{2}\n")}, 503, "{2}\n", "1"},
		{"/health/ready", handler.Readiness{JSON: []byte("{3}\n")}, 503, "{3}\n", ""},
	} {
		is := is.New(t)
		ready = test.ready
		for _, method := range []string{"GET", "HEAD"} {
			w := f.ask(method, test.path, "")
			is.Equal(w.Code, test.code)
			is.Equal(w.Body.String(), test.body) // the server drops it for HEAD
			is.Equal(w.Header().Get("Content-Type"), "application/json")
			is.Equal(w.Header().Get("Cache-Control"), "no-store")
			is.Equal(w.Header().Get("X-Content-Type-Options"), "nosniff")
			is.Equal(w.Header().Get("Retry-After"), test.again)
		}
	}
}

// TestLongHealthAnswerIsSentInOnePiece: one of many dependencies does not fit into
// net/http's buffer.
func TestLongHealthAnswerIsSentInOnePiece(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	long := []byte(strings.Repeat("x", 3000) + "\n")
	server := httptest.NewServer(newFunction(t, func(c *config) {
		c.Ready = func(context.Context) handler.Readiness { return handler.Readiness{Ready: true, JSON: long} }
	}))
	defer server.Close()
	for _, method := range []string{"GET", "HEAD"} {
		resp := raw(t, server.Listener.Addr(), method+" /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method)
		is.Equal(resp.ContentLength, int64(len(long)))
		is.Equal(len(resp.TransferEncoding), 0)
		resp.Body.Close()
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(newFunction(t))
	server.Config.DisableGeneralOptionsHandler = true
	server.Start()
	defer server.Close()
	for _, test := range []struct {
		method, target string
		code           int
		allow          string
	}{
		{"GET", "/health/live", 200, ""},
		{"HEAD", "/health/live", 200, ""},
		{"HEAD", "/health/ready", 200, ""},
		{"HEAD", "/metrics", 200, ""},
		{"GET", "/health/live?verbose=1", 200, ""},
		{"GET", "/%68ealth/live", 200, ""},
		{"GET", "http://elsewhere/health/live", 200, ""},
		{"POST", "http://elsewhere", 415, ""},
		{"POST", "/health/live", 405, "GET, HEAD"},
		{"DELETE", "/health/ready", 405, "GET, HEAD"},
		{"OPTIONS", "/metrics", 405, "GET, HEAD"},
		{"BREW", "/metrics", 405, "GET, HEAD"},
		{"GET", "/", 405, "POST"},
		{"HEAD", "/", 405, "POST"},
		{"PUT", "/", 405, "POST"},
		{"GET", "/health", 404, ""},
		{"GET", "/health/live/", 404, ""},
		{"GET", "/health/LIVE", 404, ""},
		{"GET", "/health%2Flive", 404, ""},
		{"GET", "//health/live", 404, ""},
		{"GET", "/health//live", 404, ""},
		{"GET", "/./health/live", 404, ""},
		{"GET", "/a/../health/live", 404, ""},
		{"GET", "/a/%2e%2e/health/live", 404, ""},
		{"POST", "//", 404, ""},
		{"POST", "/x", 404, ""},
		{"POST", "/slack/commands", 404, ""},
		{"OPTIONS", "*", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
		{"CONNECT", "elsewhere:443", 404, ""},
	} {
		t.Run(test.method+" "+test.target, func(t *testing.T) {
			is := is.New(t)
			resp := raw(t, server.Listener.Addr(), test.method+" "+test.target+" HTTP/1.1\r\nHost: x\r\n\r\n", test.method)
			is.Equal(resp.StatusCode, test.code)
			is.Equal(resp.Header.Get("Allow"), test.allow)
			is.Equal(resp.Header.Get("Location"), "") // never a redirect
		})
	}
}

// raw sends bytes and reads one response.
func raw(t *testing.T, addr net.Addr, request, method string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	f := newFunction(t)
	for _, test := range []struct {
		sent []string
		kept bool
	}{
		{[]string{"a"}, true},
		{[]string{"A-z_0.9"}, true},
		{[]string{strings.Repeat("x", 64)}, true},
		{[]string{strings.Repeat("x", 65)}, false},
		{[]string{""}, false},
		{[]string{"a b"}, false},
		{[]string{"a\tb"}, false},
		{[]string{"é"}, false},
		{[]string{`"},{"level":"ERROR`}, false},
		{[]string{"a", "b"}, false},
		{nil, false},
	} {
		is := is.New(t)
		var header []string
		for _, id := range test.sent {
			header = append(header, "X-Request-Id", id)
		}
		got := f.ask("GET", "/health/live", "", header...).Header()["X-Request-Id"]
		is.Equal(len(got), 1)
		is.Equal(len(test.sent) == 1 && got[0] == test.sent[0], test.kept)
		is.True(regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString(got[0]))
	}
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	f.ask("GET", "/health/live", "")
	f.ask("GET", "/health/ready", "")
	f.ask("GET", "/metrics", "")
	for _, line := range f.logs.Lines(t) {
		is.Equal(line["level"], "DEBUG") // probes and scrapes
	}

	f.logs.Reset()
	f.ask("POST", "/", `{"canary":1}`, "Content-Type", "application/json", "X-Request-Id", "r-1",
		"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Authorization", "Bearer canary",
		"Ce-Specversion", "1.0", "Ce-Id", "e-1%0A", "Ce-Source", "/s", "Ce-Type", "boson.fn")
	f.ask("POST", "/", `{"canary":1}`, "Content-Type", "application/json",
		"Ce-Specversion", "1.0", "Ce-Id", "x"+strings.Repeat("é", 100), "Ce-Source", "/s", "Ce-Type", "boson.fn",
		"Traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")
	f.ask("POST", "/", "1", event1("Ce-Id", strings.Repeat("☕", 50))...)
	f.ask("CANARY", "/canary", "canary")
	lines := slices.DeleteFunc(f.logs.Lines(t), func(line map[string]any) bool { return line["msg"] == "cold start" })
	is.Equal(len(lines), 4)
	for _, line := range lines {
		is.Equal(line["level"], "INFO")
		is.Equal(line["msg"], "request")
		for name := range line {
			is.True(regexp.MustCompile(`^(time|level|msg|route|method|code|duration_seconds|request_id|trace_id|event_id|event_source|event_type)$`).MatchString(name))
		}
	}
	is.Equal(lines[0]["request_id"], "r-1")
	is.Equal(lines[0]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736")
	is.Equal(lines[0]["code"], 400.0)   // an id with a line feed
	is.Equal(lines[0]["event_id"], nil) // which was not understood
	is.Equal(lines[1]["trace_id"], nil) // all zero is no trace
	is.Equal(lines[1]["event_type"], "boson.fn")
	is.Equal(lines[1]["event_source"], "/s")
	is.Equal(lines[1]["event_id"], "x"+strings.Repeat("é", 63)) // at most 128 bytes, and whole characters
	is.Equal(lines[2]["event_id"], strings.Repeat("☕", 42))
	is.Equal(lines[3]["method"], "unknown")
	is.Equal(lines[3]["route"], "unmatched")
	is.True(!strings.Contains(strings.ToLower(f.logs.String()), "canary"))
}

func TestTraceIDsOfWellFormedTraceparentsOnly(t *testing.T) {
	t.Parallel()
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for _, test := range []struct {
		traceparent string
		valid       bool
	}{
		{"00-" + trace + "-" + parent + "-01", true},
		{"cc-" + trace + "-" + parent + "-01-what-the-future-will-be-like", true},
		{"00-" + trace + "-" + parent + "-01-x", false},
		{"ff-" + trace + "-" + parent + "-01", false},
		{"00-" + strings.ToUpper(trace) + "-" + parent + "-01", false},
		{"00-" + trace + "-0000000000000000-01", false},
		{"00-" + trace[1:] + "-" + parent + "-01", false},
		{"00-" + trace + "-" + parent, false},
		{"", false},
	} {
		is := is.New(t)
		f := newFunction(t)
		f.ask("GET", "/health/live", "", "Traceparent", test.traceparent)
		is.Equal(f.logs.Lines(t)[0]["trace_id"] == trace, test.valid)
	}
}

func TestPanicIsA500ThatIsCounted(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) {
		c.Ready = func(context.Context) handler.Readiness { panic("canary") }
	})
	w := f.ask("GET", "/health/ready", "")
	is.Equal(w.Code, 500)
	is.Equal(w.Body.String(), `{"error":"failed"}`+"\n")
	is.Equal(f.series("coffeebuddy_http_panics_total"), "1")
	is.Equal(f.series(`coffeebuddy_http_requests_total{code="500",method="GET",route="/health/ready"}`), "1")
	is.Equal(f.series(`coffeebuddy_http_request_duration_seconds_count{method="GET",route="/health/ready"}`), "1")
	is.True(strings.Contains(f.logs.String(), `"a handler panicked"`))
	is.True(strings.Contains(f.logs.String(), "handler_test.go")) // the stack
	is.True(!strings.Contains(f.logs.String(), "canary"))
}

func TestSeriesExistFromTheStart(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	for _, name := range []string{
		`coffeebuddy_http_requests_total{code="200",method="GET",route="/health/live"}`,
		`coffeebuddy_http_requests_total{code="200",method="GET",route="/health/ready"}`,
		`coffeebuddy_http_requests_total{code="200",method="GET",route="/metrics"}`,
		`coffeebuddy_http_requests_total{code="200",method="POST",route="/"}`,
		`coffeebuddy_http_requests_total{code="204",method="POST",route="/"}`,
		`coffeebuddy_http_request_duration_seconds_count{method="POST",route="/"}`,
		`coffeebuddy_http_panics_total`,
		`coffeebuddy_events_in_flight`,
		`coffeebuddy_start_seconds{until="first_event"}`,
		`coffeebuddy_background_tasks_total{outcome="cut_off"}`,
		`promhttp_metric_handler_errors_total{cause="encoding"}`,
		`promhttp_metric_handler_requests_total{code="503"}`,
	} {
		is.Equal(newFunction(t).series(name), "0") // untouched at its first scrape
	}
	for o := range strings.FieldsSeq("accepted duplicate malformed unknown_type rejected overloaded unauthorized retry timeout failed") {
		is.Equal(f.series(`coffeebuddy_events_total{outcome="`+o+`"}`), "0")
	}
	problems, err := testutil.GatherAndLint(f.registry)
	is.NoErr(err)
	is.Equal(len(problems), 0)
}

func TestCallersCannotAddSeries(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	for i := range 50 {
		for _, method := range []string{"GET", "POST", fmt.Sprint("M", i)} {
			for _, path := range []string{"/", fmt.Sprint("/p", i), "/health/live", "//"} {
				f.ask(method, path, fmt.Sprint(i), "Ce-Type", fmt.Sprint("t", i), "User-Agent", fmt.Sprint(i), "Host", fmt.Sprint(i))
			}
		}
	}
	count, err := testutil.GatherAndCount(f.registry, "coffeebuddy_http_requests_total")
	is.NoErr(err)
	is.True(count < 25) // closed lists of methods, routes and codes
	text := f.ask("GET", "/metrics", "").Body.String()
	is.True(!strings.Contains(text, "M1"))
	is.True(!strings.Contains(text, "/p1"))
}

func TestScrapeFormats(t *testing.T) {
	t.Parallel()
	f := newFunction(t)
	f.ask("GET", "/health/live", "")
	for _, test := range []struct{ accept, contentType string }{
		{"", "text/plain; version=0.0.4"},
		{"*/*", "text/plain; version=0.0.4"},
		{"text/plain;version=0.0.4", "text/plain; version=0.0.4"},
		{"application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0"},
		{"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", "application/vnd.google.protobuf"},
	} {
		t.Run(test.contentType, func(t *testing.T) {
			is := is.New(t)
			w := f.ask("GET", "/metrics", "", "Accept", test.accept)
			is.Equal(w.Code, 200)
			is.True(strings.HasPrefix(w.Header().Get("Content-Type"), test.contentType))
		})
	}
}

// TestDurationsAreNativeAndClassic: the text formats show the classic buckets,
// protobuf both.
func TestDurationsAreNativeAndClassic(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	f.ask("GET", "/health/live", "")
	families, err := f.registry.Gather()
	is.NoErr(err)
	for _, family := range families {
		if family.GetName() != "coffeebuddy_http_request_duration_seconds" {
			continue
		}
		for _, m := range family.GetMetric() {
			is.True(m.GetHistogram().GetZeroThreshold() > 0) // native
			is.Equal(len(m.GetHistogram().GetBucket()), 14)  // classic
		}
		return
	}
	t.Error("no such metric")
}

func TestMilestonesAreRecordedOnce(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.Started = time.Now().Add(-time.Hour) })
	f.Reached(handler.Listening)
	first := f.series(`coffeebuddy_start_seconds{until="listening"}`)
	is.True(strings.HasPrefix(first, "3600."))
	f.Reached(handler.Listening)
	is.Equal(f.series(`coffeebuddy_start_seconds{until="listening"}`), first)
	is.Equal(f.series(`coffeebuddy_start_seconds{until="ready"}`), "0")
	f.ask("POST", "/", "{}", "Content-Type", "application/json")
	is.True(strings.HasPrefix(f.series(`coffeebuddy_start_seconds{until="first_event"}`), "3600."))
}

func TestDrainingClosesConnections(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.Equal(f.ask("GET", "/health/live", "").Header().Get("Connection"), "")
	f.Drain()
	w := f.ask("GET", "/health/live", "")
	is.Equal(w.Code, 200) // live while it can answer
	is.Equal(w.Header().Get("Connection"), "close")
}

func TestUnstarted(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for path, code := range map[string]int{"/health/live": 200, "/health/ready": 503, "/metrics": 503, "/": 503, "/x": 503} {
		w := httptest.NewRecorder()
		handler.Unstarted().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		is.Equal(w.Code, code)
	}
}

// TestConfigs: a zero value is the documented default, and what has none is an error.
func TestConfigs(t *testing.T) {
	t.Parallel()
	f := newFunction(t)
	for when, test := range map[string]struct {
		change func(*handler.Config)
		err    string
	}{
		"nothing but events":     {func(*handler.Config) {}, ""},
		"no events":              {func(c *handler.Config) { c.Events = nil }, "make the handler: the field Events is nil"},
		"a scope and nobody":     {func(c *handler.Config) { c.EventsScope = "events" }, "make the handler: there is an EventsScope, and Authorize is nil"},
		"a taken metrics path":   {func(c *handler.Config) { c.MetricsPath = "/health/live" }, `make the handler: the metrics path "/health/live" is not a plain path of its own`},
		"another":                {func(c *handler.Config) { c.MetricsPath = "/health/ready" }, `make the handler: the metrics path "/health/ready" is not a plain path of its own`},
		"the events' path":       {func(c *handler.Config) { c.MetricsPath = "/" }, `make the handler: the metrics path "/" is not a plain path of its own`},
		"a relative path":        {func(c *handler.Config) { c.MetricsPath = "metrics" }, `make the handler: the metrics path "metrics" is not a plain path of its own`},
		"an unclean path":        {func(c *handler.Config) { c.MetricsPath = "/a/../b" }, `make the handler: the metrics path "/a/../b" is not a plain path of its own`},
		"a path of many":         {func(c *handler.Config) { c.MetricsPath = "/{any}" }, `make the handler: the metrics path "/{any}" is not a plain path of its own`},
		"a path that is no path": {func(c *handler.Config) { c.MetricsPath = "/a b" }, `make the handler: the metrics path "/a b" is not a plain path of its own`},
		"a registry of another":  {func(c *handler.Config) { c.Registry = f.registry }, "register the handler's metrics: duplicate metrics collector registration attempted"},
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			engine, err := events.New(events.Config{})
			is.NoErr(err)
			config := handler.Config{Events: engine}
			test.change(&config)
			h, err := handler.New(config)
			if test.err != "" {
				is.True(err != nil)
				is.Equal(err.Error(), test.err)
				return
			}
			is.NoErr(err)
			f := function{Handler: h, Engine: engine}
			is.Equal(f.ask("GET", "/health/ready", "").Code, 200)
			is.Equal(f.series(`coffeebuddy_start_seconds{until="first_event"}`), "0")
			is.Equal(f.ask("POST", "/", "{}", "Content-Type", "application/json").Code, 422) // without Echo
			is.NoErr(f.Wait(t.Context()))
		})
	}
}
