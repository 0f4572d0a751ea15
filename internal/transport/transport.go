// Package transport is how Vault and Ory are asked: without a proxy or anything else of
// the environment, with bounded responses, and with errors that say their reason.
package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"coffeebuddy/internal/fault"
)

// Limit is how much of a response is read, in bytes; headers have the same limit.
// Vault's and Ory's health responses are under 1 KiB.
const Limit = 64 << 10

// New returns a transport for one dependency that takes nothing from the environment:
// no proxy, and roots for TLS as given (nil means the system's). It opens a connection
// for each request.
func New(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:       nil, // a proxy would see the token of a plain http Vault
		DialContext: inTime(new(net.Dialer).DialContext),
		// Our own handshake, because its errors have no common type: outside of it
		// they could not be told from a server that speaks no HTTP.
		DialTLSContext: inTime(func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			secure := tls.Client(conn, &tls.Config{
				RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			})
			if err := secure.HandshakeContext(ctx); err != nil {
				conn.Close()
				return nil, fault.Handshake(err)
			}
			return secure, nil
		}),
		DisableCompression:     true, // so that the limit counts what was sent, and no small body unpacks to a large one
		MaxResponseHeaderBytes: Limit,
		// On a kept connection, a server that closes it for being idle looks as if it were
		// down, unless net/http sends the request once more; and a lookup that is sent
		// twice may spend two uses of its token.
		DisableKeepAlives: true,
	}
}

// Pause waits between two attempts, and reports whether there is time for another one
// afterwards. If there will be none it returns at once.
func Pause(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// IsVisible reports whether a text has nothing but visible ASCII characters (RFC 9110,
// section 5.5): tokens, and what is made of settings for a header, must not have others.
func IsVisible(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// deadlineKey is the key of a request's deadline among its context's values.
type deadlineKey struct{}

// inTime gives a dial, its handshake included, the deadline of its request. net/http
// takes it off the context, so that a connection may come in for another request;
// one that hangs would then be left behind by each check.
func inTime(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if deadline, ok := ctx.Value(deadlineKey{}).(time.Time); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline)
			defer cancel()
		}
		return dial(ctx, network, addr)
	}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// Bounded reads each response whole, up to [Limit], before anyone sees it, so that
// neither vault/api nor client-go can be made to read more, and so that whatever broke
// on the wire is a [fault.Error] with its reason.
type Bounded struct{ Next http.RoundTripper }

// limitKey is the key of another limit among a request's context's values.
type limitKey struct{}

// WithLimit returns a context whose requests may have a response of n bytes.
func WithLimit(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, limitKey{}, n)
}

// observerKey is the key of who is told of a request, among its context's values.
type observerKey struct{}

// WithObserver returns a context whose requests are told of when they have their
// response, which is nil where there is none. It is called by whoever sends them, at any
// time, and must not keep or change either of the two.
func WithObserver(ctx context.Context, observe func(*http.Request, *http.Response)) context.Context {
	return context.WithValue(ctx, observerKey{}, observe)
}

// RoundTrip implements http.RoundTripper.
func (b Bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.roundTrip(req)
	if observe, ok := req.Context().Value(observerKey{}).(func(*http.Request, *http.Response)); ok {
		observe(req, resp)
	}
	return resp, err
}

func (b Bounded) roundTrip(req *http.Request) (*http.Response, error) {
	ctx, limit := req.Context(), Limit
	if n, ok := ctx.Value(limitKey{}).(int); ok {
		limit = n
	}
	if deadline, ok := ctx.Deadline(); ok {
		ctx = context.WithValue(ctx, deadlineKey{}, deadline)
	}
	resp, err := b.Next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, fault.Of(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close() // what follows is no body and has no end
		resp.Body = http.NoBody
		return resp, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	resp.Body.Close()
	switch {
	case err != nil:
		return nil, fault.Of(err)
	case len(body) > limit && resp.StatusCode == http.StatusOK:
		return nil, &fault.Error{Reason: fault.BadResponse, Detail: "a response over the size limit"}
	case len(body) > limit:
		body = nil // its status has said enough
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	return resp, nil
}
