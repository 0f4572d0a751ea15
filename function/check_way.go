package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"sync"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/transport"
)

// A request is one request of a check, as far as it came.
type request struct {
	Method    string   `json:"method,omitempty"`
	Path      string   `json:"path,omitempty"`
	Host      string   `json:"host"`                // as the settings have it
	Addresses []string `json:"addresses,omitempty"` // what its name was resolved to
	Connected string   `json:"connected,omitempty"` // the address that took the connection
	Failed    string   `json:"failed,omitempty"`    // why the last address did not
	TLS       string   `json:"tls,omitempty"`       // the version
	Issuer    string   `json:"issuer,omitempty"`    // who signed the server's certificate
	Status    int      `json:"status,omitempty"`    // of HTTP; 0 without a response
	Millis    int64    `json:"duration_ms"`

	began time.Time
	http  bool // and not a database's
	ended bool
}

// A way records the requests of one check, which come one after the other.
type way struct {
	mu       sync.Mutex
	requests []*request
}

// watch returns a context whose requests are recorded.
func (w *way) watch(ctx context.Context) context.Context {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:  func(host string) { w.record(func(r *request) { r.Host, r.http = host, true }) },
		DNSStart: func(info httptrace.DNSStartInfo) { w.record(func(r *request) { r.resolving(info.Host) }) },
		DNSDone:  func(info httptrace.DNSDoneInfo) { w.record(func(r *request) { r.resolved(info) }) },
		ConnectDone: func(_, address string, err error) {
			w.record(func(r *request) { r.connected(address, err) })
		},
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			w.record(func(r *request) { r.secured(state, err) })
		},
	})
	return transport.WithObserver(ctx, func(req *http.Request, resp *http.Response) {
		w.record(func(r *request) { r.answered(req, resp) })
	})
}

// record changes the request under way, a new one after the end of the last.
func (w *way) record(change func(*request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.requests); n == 0 || w.requests[n-1].ended {
		w.requests = append(w.requests, &request{began: time.Now()})
	}
	r := w.requests[len(w.requests)-1]
	change(r)
	r.Millis = time.Since(r.began).Milliseconds()
}

// taken returns copies of the requests: one that was left behind may still change.
func (w *way) taken() []*request {
	w.mu.Lock()
	defer w.mu.Unlock()
	copies := []*request{} // an array in JSON, too
	for _, r := range w.requests {
		c := *r
		c.Addresses = slices.Clone(r.Addresses)
		copies = append(copies, &c)
	}
	return copies
}

func (r *request) resolving(host string) {
	if r.Host == "" { // no request of HTTP
		r.Host = host
	}
}

func (r *request) resolved(info httptrace.DNSDoneInfo) {
	if info.Err != nil {
		r.Failed = "the name cannot be resolved"
		return
	}
	for _, address := range info.Addrs {
		r.Addresses = append(r.Addresses, address.String())
	}
}

func (r *request) connected(address string, err error) {
	if err != nil {
		r.Failed = address + ": " + fault.Of(err).Detail
		return
	}
	if _, err := netip.ParseAddrPort(address); err == nil {
		r.Connected, r.Failed = address, ""
	}
}

func (r *request) secured(state tls.ConnectionState, err error) {
	if err != nil {
		return // the reason says so
	}
	r.TLS = tls.VersionName(state.Version)
	if len(state.PeerCertificates) > 0 {
		r.Issuer = state.PeerCertificates[0].Issuer.String()
	}
}

func (r *request) answered(req *http.Request, resp *http.Response) {
	r.Method, r.Path, r.Host, r.ended = req.Method, req.URL.EscapedPath(), req.URL.Host, true // a redirect may hold control characters
	if resp != nil {
		r.Status = resp.StatusCode
	}
}
