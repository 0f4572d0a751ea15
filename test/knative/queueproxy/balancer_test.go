package queueproxy

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A balancer spreads requests over pods, as Kubernetes' Services and Knative's activator do: each in turn that its probe found ready last.
// It asks no pod twice for one request.
type balancer struct {
	url      string
	backends []*backend
	turn     atomic.Uint64

	mu    sync.Mutex
	wrong []error // what it could not answer, or only with a second attempt
}

// A backend is a pod as the balancer sees it.
type backend struct {
	pod      *pod
	proxy    *httputil.ReverseProxy
	ready    atomic.Bool
	answered atomic.Int64
	left     atomic.Int64 // when it was found not ready, in Unix nanoseconds
}

// balancedEvery is how often each pod is probed: much slower than Kubernetes tells that a pod is going, so that it gets requests for a
// while in which it drains.
const balancedEvery = time.Second

func startBalancer(t *testing.T, pods ...*pod) *balancer {
	t.Helper()
	b := new(balancer)
	var probing sync.WaitGroup
	for _, pod := range pods {
		transport := &http.Transport{MaxIdleConnsPerHost: 100}
		t.Cleanup(transport.CloseIdleConnections)
		to := &url.URL{Scheme: "http", Host: pod.throughQueue()}
		backend := &backend{pod: pod, proxy: &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.SetXForwarded() },
			Transport: b.once(transport),
			ErrorLog:  log.New(io.Discard, "", 0), // errors are noted
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				b.note(err)
				w.WriteHeader(http.StatusBadGateway)
			},
		}}
		backend.ready.Store(true) // the test has waited for it
		b.backends = append(b.backends, backend)
		probing.Go(func() { backend.watch(t.Context()) })
	}
	server := httptest.NewServer(b)
	b.url = server.URL
	t.Cleanup(func() { server.Close(); probing.Wait() })
	return b
}

// watch keeps the pod while the activator's probe says that it is ready. One that is not answered says nothing yet: Kubernetes, too, takes
// several of these.
func (b *backend) watch(ctx context.Context) {
	prober := activator()
	prober.patience = balancedEvery
	for pause(ctx, balancedEvery) {
		a, err := prober.ask(ctx, b.pod.network.address())
		if err != nil {
			continue
		}
		ready := a.status == http.StatusOK
		if b.ready.Swap(ready) && !ready {
			b.left.Store(time.Now().UnixNano())
		}
	}
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	turn := b.turn.Add(1)
	for i := range uint64(len(b.backends)) {
		backend := b.backends[(turn+i)%uint64(len(b.backends))]
		if backend.ready.Load() {
			backend.proxy.ServeHTTP(w, r)
			backend.answered.Add(1)
			return
		}
	}
	b.note(fmt.Errorf("no pod is ready"))
	w.WriteHeader(http.StatusServiceUnavailable)
}

func (b *balancer) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, err)
}

// once notes it when the transport sends a request a second time, as it does by itself when a kept connection turns out to be closed.
func (b *balancer) once(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		connections := 0
		ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
			if connections++; connections > 1 {
				b.note(fmt.Errorf("%s %s was sent again", r.Method, r.URL.Path))
			}
		}})
		return next.RoundTrip(r.WithContext(ctx))
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
