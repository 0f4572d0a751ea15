package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"
)

// serve returns a server as the steps know it.
func serve(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return &server{program: program{patience: 10 * time.Second}, address: strings.TrimPrefix(s.URL, "http://")}
}

func TestAnswersAreReadWhole(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		status int
		bytes  int
	}{
		"with a length": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("abc")) }, 200, 3},
		"empty":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }, 202, 0},
		"no content":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, 204, 0},
		"in lower case": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["content-length"] = []string{"3"} // as uvicorn writes it
			_, _ = w.Write([]byte("abc"))
		}, 200, 3},
		"chunked": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(long))
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write([]byte(long))
		}, 200, 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			c, err := dial(serve(t, test.answer).address)
			is.NoErr(err)
			defer c.Close()
			for range 3 { // nothing of one answer is taken for the next one
				body, err := c.ask(get("/", test.status))
				is.NoErr(err)
				is.True(len(body) >= test.bytes && len(body) < test.bytes+200) // and the chunks' sizes
			}
			_, err = c.ask(get("/", 404))
			is.True(err != nil) // another status than is wanted
		})
	}
}

func TestClosedLoopCountsWhatWasAnswered(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var asked atomic.Int64
	s := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	c, err := closedLoop(s, get("/", 200), 4, 500*time.Millisecond)
	is.NoErr(err)
	is.Equal(c.unanswered, 0)
	is.True(c.answered > 0)
	is.True(int64(c.answered) <= asked.Load() && asked.Load() <= int64(c.answered)+4) // the last of each connection may be late
}

func TestClosedLoopWaitsForNobodyForEver(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s.patience = 50 * time.Millisecond
	c, err := closedLoop(s, get("/", 200), 3, 20*time.Millisecond)
	is.NoErr(err)
	is.Equal(c, count{unanswered: 3})
}

// Of a stall of 200 ms at 1,000 requests a second 200 requests have their part, not the few that were under way when it began.
func TestStallsShowInAllThatHadToWait(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var asked atomic.Int64
	release := make(chan struct{})
	s := serve(t, func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) == 100 {
			time.AfterFunc(200*time.Millisecond, func() { close(release) })
		}
		if asked.Load() >= 100 {
			<-release
		}
	})
	drawn := openLoop(s, get("/", 200), 1000, time.Second, 4)
	is.NoErr(drawn.err())
	is.Equal(len(drawn.latencies), 1000)
	is.True(quantile(drawn.latencies, 0.95) > 100*time.Millisecond) // a client that waits with its next request would see four such
}

func TestRequestsWithoutAnAnswerAreAmongTheLatencies(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s.patience = 100 * time.Millisecond
	drawn := openLoop(s, get("/", 200), 100, 200*time.Millisecond, 4)
	is.NoErr(drawn.err())
	is.Equal(drawn.unanswered, 20)
	is.Equal(len(drawn.latencies), 20)
	is.Equal(drawn.inTime, 0)
	is.True(drawn.latencies[0] >= 100*time.Millisecond)
}
