package checks

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"time"
)

// bodyLimit is how much of an answer is read, in bytes; headers have the same
// limit. Vault's and Ory's health answers are under 1 KiB.
const bodyLimit = 64 << 10

// newTransport returns a transport for one dependency that takes nothing from
// the environment: no proxy, and roots for TLS as given (nil means the system's).
func newTransport(roots *x509.CertPool) *http.Transport {
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
				return nil, handshakeError(err)
			}
			return secure, nil
		}),
		DisableCompression:     true, // so that the limit counts what was sent, and no small body unpacks to a large one
		MaxResponseHeaderBytes: bodyLimit,
		// A connection for each request. On a kept one, a server that closes it for being
		// idle looks as if it were down, unless net/http sends the request once more; and
		// a lookup that is sent twice may spend two uses of its token.
		DisableKeepAlives: true,
	}
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

// bounded reads each answer whole, up to bodyLimit, before anyone sees it, so
// that neither vault/api nor client-go can be made to read more, and so that
// whatever broke on the wire is an [Error] with its reason.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if deadline, ok := ctx.Deadline(); ok {
		ctx = context.WithValue(ctx, deadlineKey{}, deadline)
	}
	resp, err := b.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, classify(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body.Close() // what follows is no body and has no end
		resp.Body = http.NoBody
		return resp, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit+1))
	resp.Body.Close()
	switch {
	case err != nil:
		return nil, classify(err)
	case len(body) > bodyLimit && resp.StatusCode == http.StatusOK:
		return nil, &Error{ReasonBadResponse, "an answer over 64 KiB"}
	case len(body) > bodyLimit:
		body = nil // its status has said enough
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	return resp, nil
}
