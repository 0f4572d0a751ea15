package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
)

// TestScrapesInAnyCoding are answered, and none writes a line that others pay for.
func TestScrapesInAnyCoding(t *testing.T) {
	t.Parallel()
	for accepted, coding := range map[string]string{
		"": "", "br": "", "identity": "", "gzip": "gzip", "GZIP": "gzip", "br, gzip": "gzip", "deflate, gzip;q=0.5": "gzip",
		"gzip;q=0": "", "gzip; q=0.0": "", "*;q=0": "", "identity;q=0": "", "zstd;q=1, *;q=0": "",
	} {
		is := is.New(t)
		f := newFunction(t)
		w := f.ask("GET", "/metrics", "", "Accept-Encoding", accepted)
		is.Equal(w.Code, 200)
		is.Equal(w.Header().Get("Content-Encoding"), coding) // accepted
		is.True(!strings.Contains(f.logs.String(), `"ERROR"`))
	}
}

// collections registers a gauge that counts how often it was collected, and shows the count.
func collections(f function) *atomic.Int64 {
	var count atomic.Int64
	f.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "collections", Help: "Collections."}, func() float64 {
		return float64(count.Add(1))
	}))
	return &count
}

// An unread is the connection of a client that reads nothing until it is told to.
type unread struct {
	*httptest.ResponseRecorder

	began chan<- bool // nil when it was told
	read  <-chan bool
}

func (u *unread) Write(p []byte) (int, error) {
	if u.began != nil {
		u.began <- true
		u.began = nil
	}
	<-u.read
	return u.ResponseRecorder.Write(p)
}

// leaveUnread sends scrapes that nobody reads until the returned func is called, which
// waits for their ends.
func leaveUnread(f function, count int, target string, headers ...string) (read func() []*httptest.ResponseRecorder) {
	began, release := make(chan bool), make(chan bool)
	var scrapes sync.WaitGroup
	responses := make([]*httptest.ResponseRecorder, count)
	for i := range count {
		responses[i] = httptest.NewRecorder()
		scrapes.Go(func() {
			w := &unread{ResponseRecorder: responses[i], began: began, read: release}
			r := httptest.NewRequestWithContext(context.Background(), "GET", target, http.NoBody)
			for h := range slices.Chunk(headers, 2) {
				r.Header.Set(h[0], h[1])
			}
			f.ServeHTTP(w, r)
		})
	}
	for range count {
		<-began
	}
	return func() []*httptest.ResponseRecorder {
		close(release)
		scrapes.Wait()
		return responses
	}
}

func TestScrapesThatNobodyReadRefuseNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		count := collections(f)
		read := leaveUnread(f, 100, "/metrics")
		is.Equal(count.Load(), int64(1)) // they share one collection

		is.True(strings.Contains(f.ask("GET", "/metrics", "").Body.String(), "\ncollections 1\n"))
		gzipped := f.ask("GET", "/metrics", "", "Accept-Encoding", "gzip")
		is.Equal(gzipped.Header().Get("Content-Encoding"), "gzip")
		is.Equal(count.Load(), int64(1)) // any format of it

		time.Sleep(251 * time.Millisecond)
		is.True(strings.Contains(f.ask("GET", "/metrics", "").Body.String(), "\ncollections 2\n"))
		for _, w := range read() {
			is.Equal(w.Code, 200)
			is.True(strings.Contains(w.Body.String(), "\ncollections 1\n"))
			is.Equal(w.Header().Get("Content-Length"), strconv.Itoa(w.Body.Len()))
		}
	})
}

// TestWhoAsksAloneSeesWhatHasHappened, however short a time ago others asked.
func TestWhoAsksAloneSeesWhatHasHappened(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	count := collections(f)
	for n := range int64(10) {
		is.True(strings.Contains(f.ask("GET", "/metrics", "").Body.String(), fmt.Sprintf("\ncollections %d\n", n+1)))
		is.Equal(count.Load(), n+1)
	}
	// A real client has the end of a response when its scrape is in flight no more.
	server := httptest.NewServer(f)
	defer server.Close()
	client := server.Client()
	client.Transport.(*http.Transport).DisableKeepAlives = true
	for n := range int64(100) {
		resp, err := client.Get(server.URL + "/metrics")
		is.NoErr(err)
		text, err := io.ReadAll(resp.Body)
		is.NoErr(err)
		resp.Body.Close()
		is.True(strings.Contains(string(text), fmt.Sprintf("\ncollections %d\n", n+11)))
	}
}

// TestScrapesThatAreNotReadAreBounded: above 8 MiB no new collection begins until some are
// read, and those that have no bound in number are refused.
func TestScrapesThatAreNotReadAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		count := collections(f)
		f.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "long", Help: strings.Repeat("long ", 500<<10)}, func() float64 { return 1 }))
		selected := func(name string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			f.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics?name[]="+name, http.NoBody))
			return w
		}
		var all []func() []*httptest.ResponseRecorder
		for range 4 { // 2.5 MiB each
			all = append(all, leaveUnread(f, 2, "/metrics"))
			time.Sleep(time.Second)
		}
		is.Equal(count.Load(), int64(4))
		is.True(strings.Contains(f.ask("GET", "/metrics", "").Body.String(), "\ncollections 4\n"))
		is.Equal(selected("long").Code, 503)
		all[0]()
		is.True(strings.Contains(f.ask("GET", "/metrics", "").Body.String(), "\ncollections 5\n"))
		is.Equal(selected("collections").Body.String(), "# HELP collections Collections.\n# TYPE collections gauge\ncollections 5\n")
		for _, read := range all[1:] {
			read()
		}
		is.True(strings.Contains(f.ask("GET", "/metrics", "").Body.String(), "\ncollections 6\n"))
	})
}

// TestACollectorThatHangs has the scrapes that come wait for the one collection that runs, and holds
// up nothing else.
func TestACollectorThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		entered, leave := make(chan bool), make(chan bool)
		f.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "slow", Help: "Slow."}, func() float64 {
			entered <- true
			<-leave
			return 0
		}))
		var scrapes sync.WaitGroup
		scrapes.Go(func() { is.Equal(f.ask("GET", "/metrics", "").Code, 200) })
		<-entered
		for range 20 {
			scrapes.Go(func() { is.Equal(f.ask("GET", "/metrics", "").Code, 200) })
			time.Sleep(time.Second)
		}
		is.Equal(f.ask("GET", "/health/ready", "").Code, 200)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics", http.NoBody)) // who leaves does not wait
		is.Equal(w.Code, 503)
		close(leave)
		scrapes.Wait()
	})
}

// TestAHalfClosedScrapeIsAnswered: the client looks like one that left, and reads.
func TestAHalfClosedScrapeIsAnswered(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		w := httptest.NewRecorder()
		f.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/metrics", http.NoBody))
		is.Equal(w.Code, 200)
	}
}

// TestACollectorThatFails is counted and logged, and the others are shown, as promhttp does it.
func TestACollectorThatFails(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	f.registry.MustRegister(failing{prometheus.NewDesc("failing", "Fails.", nil, nil)})
	text := f.ask("GET", "/metrics", "").Body.String()
	is.True(strings.Contains(text, "coffeebuddy_http_requests_in_flight 1\n"))
	is.True(strings.Contains(f.logs.String(), "error gathering metrics"))
	is.True(strings.Contains(f.ask("GET", "/metrics", "").Body.String(), `promhttp_metric_handler_errors_total{cause="gathering"} 1`))
}

type failing struct{ desc *prometheus.Desc }

func (f failing) Describe(descs chan<- *prometheus.Desc) { descs <- f.desc }
func (f failing) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.NewInvalidMetric(f.desc, errors.New("it fails"))
}
