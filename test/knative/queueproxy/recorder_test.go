package queueproxy

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recordedPort is the function's where a recorder has its usual one.
const recordedPort = "18080"

// A recorder stands in the function's place, hands on what queue-proxy sends, changed in nothing, and notes how it went.
type recorder struct {
	mu    sync.Mutex
	notes []note
}

// A note is of one request.
type note struct {
	path   string
	header http.Header   // as it came, with its Host
	took   time.Duration // until the answer was handed back
	status int
	gaveUp bool // the caller did not wait for it
}

// startRecorder listens on the function's port in the namespace, and ends with the test.
func startRecorder(t *testing.T, n namespace) *recorder {
	t.Helper()
	var listener net.Listener
	err := n.within(func() (err error) {
		listener, err = net.Listen("tcp", ":"+functionPort)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		MaxIdleConnsPerHost: 100,
		DisableCompression:  true,
		DialContext: func(ctx context.Context, network, address string) (connection net.Conn, err error) {
			err = n.within(func() (err error) {
				connection, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return connection, err
		},
	}
	r := new(recorder)
	server := &http.Server{Handler: r.around(&httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     transport,
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway) // the function is not there, or the caller not any more
		},
	})}
	go func() { _ = server.Serve(listener) }() // ends when it is closed
	t.Cleanup(func() {
		_ = server.Close()
		transport.CloseIdleConnections()
	})
	return r
}

// rewrite sends a request on with its Host, and with the headers that a proxy would make its own.
func rewrite(r *httputil.ProxyRequest) {
	r.SetURL(&url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", recordedPort)})
	r.Out.Host = r.In.Host
	for name, values := range r.In.Header {
		if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded") {
			r.Out.Header[name] = values
		}
	}
}

func (r *recorder) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		began := time.Now()
		header := request.Header.Clone()
		header.Set("Host", request.Host)
		noted := &statusWriter{ResponseWriter: w}
		// Asked before the caller can have left because it has the answer.
		noted.before = func(status int) { noted.gaveUp = status == http.StatusBadGateway && request.Context().Err() != nil }
		next.ServeHTTP(noted, request)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.notes = append(r.notes, note{
			path: request.URL.Path, header: header,
			took: time.Since(began), status: noted.status, gaveUp: noted.gaveUp,
		})
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter

	before func(status int) // called with it
	status int
	gaveUp bool
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.before(status)
	w.ResponseWriter.WriteHeader(status)
}

// of returns the notes of a path, the first one first.
func (r *recorder) of(path string) []note {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.notes), func(n note) bool { return n.path != path })
}
