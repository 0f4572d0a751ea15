package handler

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	// scrapeTimeout is how long one scrape may take to be read, where the server's listener has
	// no limit of its own: Prometheus' own default.
	scrapeTimeout = 10 * time.Second

	// sharedFor is how old a collection may be that scrapes in flight share.
	sharedFor = 250 * time.Millisecond

	// heldLimit is the size of the responses that are being written, in bytes, above which no
	// new collection begins while others are in flight: some 300 that nobody reads.
	heldLimit = 8 << 20

	// unwritten is the end of a response that is written last. It fits into net/http's buffer,
	// which is sent when the handler has returned.
	unwritten = 1 << 10
)

// scrapes are the responses of the metrics path: text, OpenMetrics or protobuf, as the
// scraper asks for; native histograms are in protobuf only.
//
// Scrapes that overlap share one collection for 250 ms, and each format of it is encoded once.
// One that comes while no other is in flight always gets a collection of its own, so that whoever
// does something and then looks sees it. A response is bytes before its first one is written, and
// no lock is held while it is: clients that do not read refuse and delay no other, and share
// what they do not read.
//
// Scrapes that name[] selects metrics for share the collection only: their responses have no bound
// in number, so they get 503 above heldLimit. Other scrapes then share the last collection, which
// grows older than 250 ms until clients have read, or have been cut off.
type scrapes struct {
	registry *prometheus.Registry
	formats  []expfmt.Format
	encode   http.Handler // promhttp's, of the collection in source

	mu       sync.Mutex
	inFlight int
	current  *collection // nil while no scrape is in flight
	held     int         // bytes of the responses that are being written
	spare    []byte      // a buffer that no response uses

	encoding sync.Mutex
	source   *collection   // which is encoded; guarded by encoding, like the rest
	accept   string        // the last Accept header, which one Prometheus sends each time
	format   expfmt.Format // what was negotiated for it
}

// A collection is what the registry had at one time.
type collection struct {
	began time.Time
	done  chan struct{} // closed when families and err are there

	families []*dto.MetricFamily
	err      error

	responses map[scrapeKind]*scrape // guarded by scrapes.encoding
}

// A scrapeKind is what the response of a collection depends on. Its values are from closed lists.
type scrapeKind struct {
	format expfmt.Format
	coding string
}

// A scrape is the response to scrapes of one kind. It is an http.ResponseWriter for promhttp.
type scrape struct {
	bytes.Buffer

	header  http.Header
	status  int
	readers int // guarded by scrapes.mu
}

func (s *scrape) Header() http.Header    { return s.header }
func (s *scrape) WriteHeader(status int) { s.status = status }

// handleMetrics shows a registry.
func handleMetrics(registry *prometheus.Registry, log *slog.Logger) http.Handler {
	s := &scrapes{registry: registry, formats: expfmt.DefaultOpenMetricsAcceptedFormats()}
	s.encode = promhttp.HandlerFor(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		return s.source.families, s.source.err
	}), promhttp.HandlerOpts{
		Registry:        registry,
		ErrorHandling:   promhttp.ContinueOnError,
		ErrorLog:        slog.NewLogLogger(log.Handler(), slog.LevelError),
		AcceptedFormats: s.formats,
	})
	return promhttp.InstrumentMetricHandler(registry, s)
}

// ServeHTTP answers one scrape.
func (s *scrapes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeTimeout)) // a test's connection may have none
	s.mu.Lock()
	s.inFlight++
	s.mu.Unlock()

	var response *scrape
	left := false
	leave := func() (alone bool) {
		if left {
			return false
		}
		left = true
		return s.leave(response)
	}
	defer leave()

	c := s.collect()
	select {
	case <-c.done:
	case <-r.Context().Done():
		if c.running() {
			http.Error(w, "the client left", http.StatusServiceUnavailable)
			return
		} // else it may have closed only its side for writing, and reads
	}
	if response = s.respond(c, r); response == nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many scrapes of selected metrics are not read", http.StatusServiceUnavailable)
		return
	}
	body := response.Bytes()
	maps.Copy(w.Header(), response.header)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(response.status)
	end := max(0, len(body)-unwritten)
	_, _ = w.Write(body[:end]) // a client that disconnected gets no response
	// From here on this scrape is not in flight: its client, who has not got the end yet, may
	// be the one who asks next.
	alone := leave()
	_, _ = w.Write(body[end:])
	if alone {
		s.mu.Lock()
		s.spare = body[:0]
		s.mu.Unlock()
	}
}

// collect returns the collection that scrapes in flight share, which may be running, or a new one.
func (s *scrapes) collect() *collection {
	s.mu.Lock()
	now := time.Now()
	if c := s.current; c != nil && (c.running() || now.Sub(c.began) <= sharedFor || s.held > heldLimit) {
		s.mu.Unlock()
		return c
	}
	c := &collection{began: now, done: make(chan struct{}), err: errors.New("the collection panicked")}
	s.current = c
	s.mu.Unlock()
	defer close(c.done)
	c.families, c.err = s.registry.Gather()
	return c
}

func (c *collection) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// respond returns the response to a request for a collection, which the caller leaves; nil where
// it would be one too many.
func (s *scrapes) respond(c *collection, r *http.Request) *scrape {
	kind := scrapeKind{coding: codingOf(r.Header.Values("Accept-Encoding"))}
	selected := r.URL.RawQuery != "" && r.URL.Query().Has("name[]")

	s.encoding.Lock()
	defer s.encoding.Unlock()
	if accept := r.Header.Get("Accept"); accept != s.accept || s.format == "" {
		s.accept, s.format = accept, expfmt.NegotiateAccept(r.Header, s.formats...)
	}
	kind.format = s.format
	response := c.responses[kind]
	switch {
	case selected:
		s.mu.Lock()
		full := s.held > heldLimit
		s.mu.Unlock()
		if full {
			return nil
		}
		response = s.encoded(c, kind, r)
	case response == nil:
		response = s.encoded(c, kind, r)
		if c.responses == nil {
			c.responses = make(map[scrapeKind]*scrape)
		}
		c.responses[kind] = response
	}
	s.mu.Lock()
	if response.readers++; response.readers == 1 {
		s.held += response.Len()
	}
	s.mu.Unlock()
	return response
}

// encoded returns a new response. The lock of encoding is held.
func (s *scrapes) encoded(c *collection, kind scrapeKind, r *http.Request) *scrape {
	s.mu.Lock()
	spare := s.spare
	s.spare = nil
	s.mu.Unlock()
	response := &scrape{header: make(http.Header, 4), status: http.StatusOK, Buffer: *bytes.NewBuffer(spare)}
	s.source = c
	r.Header.Set("Accept-Encoding", kind.coding) // promhttp logs an error for each request that accepts neither of its two
	s.encode.ServeHTTP(response, r)
	s.source = nil
	return response
}

// leave ends a scrape, with its response if it has one, and reports whether nobody else has that.
func (s *scrapes) leave(response *scrape) (alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight--; s.inFlight == 0 {
		s.current = nil
	}
	if response == nil {
		return false
	}
	if response.readers--; response.readers == 0 {
		s.held -= response.Len()
	}
	return s.inFlight == 0 && response.readers == 0
}

// codingOf returns the content coding of a scrape, one of the two that promhttp has here.
func codingOf(accepted []string) string {
	for coding := range strings.SplitSeq(strings.Join(accepted, ","), ",") {
		name, parameters, _ := strings.Cut(coding, ";")
		_, quality, _ := strings.Cut(parameters, "q=")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") && (quality == "" || strings.Trim(quality, "0. ") != "") {
			return "gzip"
		}
	}
	return "identity"
}
