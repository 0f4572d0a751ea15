package checks_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/internal/servertest"
	"coffeebuddy/ory"
	"coffeebuddy/vault"

	"github.com/matryer/is"
)

func vaultAt(t *testing.T, address string) checks.Checker {
	t.Helper()
	client, err := vault.New(vault.Config{Address: address, Token: vault.FixedToken("s.canary")})
	is.New(t).NoErr(err)
	return checks.NewVault(client)
}

func oryAt(t *testing.T, base string) checks.Checker {
	t.Helper()
	client, err := ory.New(ory.Config{BaseURL: base})
	is.New(t).NoErr(err)
	return checks.NewOry(client, nil)
}

// hungTimeout is exceeded only by a check that hangs, even on a busy machine.
const hungTimeout = 15 * time.Second

// check runs a check with a timeout.
func check(t *testing.T, c checks.Checker, timeout time.Duration) checks.Reason {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := c.Check(ctx)
	if err != nil && strings.Contains(err.Error(), "canary") {
		t.Errorf("an error shows what it must not: %v", err)
	}
	return checks.ReasonOf(err)
}

// TestConnectionsThatFail covers both checks: failures below HTTP are the same for each.
func TestConnectionsThatFail(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer t.Cleanup(plain.Close)
	private := httptest.NewTLSServer(http.NotFoundHandler())
	private.Config.ErrorLog = nil
	t.Cleanup(private.Close)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	t.Cleanup(old.Close)

	mutual := httptest.NewUnstartedServer(http.NotFoundHandler())
	mutual.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	mutual.StartTLS()
	t.Cleanup(mutual.Close)

	ok := "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"
	for _, test := range []struct {
		when string
		url  string
		want checks.Reason
	}{
		{"nothing listens", "http://127.0.0.1:1", checks.ReasonRefused},
		{"the host does not exist", "http://coffeebuddy.invalid:8200", checks.ReasonDNS},
		{"it hangs", servertest.HandWritten(t, servertest.Hang), checks.ReasonTimeout},
		{"it hangs in the handshake", strings.Replace(servertest.HandWritten(t, servertest.Hang), "http:", "https:", 1), checks.ReasonTimeout},
		{"it closes at once", servertest.HandWritten(t, func(c net.Conn) { c.Close() }), checks.ReasonRefused},
		{"it closes without an answer", servertest.HandWritten(t, servertest.After("")), checks.ReasonRefused},
		{"it closes in the handshake", strings.Replace(servertest.HandWritten(t, servertest.After("")), "http:", "https:", 1), checks.ReasonRefused},
		{"it resets", servertest.HandWritten(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() }), checks.ReasonRefused},
		{"it closes within the headers", servertest.HandWritten(t, servertest.After("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")), checks.ReasonRefused},
		{"it closes within the body", servertest.HandWritten(t, servertest.After(ok)), checks.ReasonRefused},
		{"it hangs within the body", servertest.HandWritten(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, ok)
			servertest.Hang(c)
		}), checks.ReasonTimeout},
		{"it speaks SSH", servertest.HandWritten(t, servertest.After("SSH-2.0-canary\r\n")), checks.ReasonBadResponse},
		{"its status is no number", servertest.HandWritten(t, servertest.After("HTTP/1.1 canary OK\r\n\r\n")), checks.ReasonBadResponse},
		{"it echoes the request", servertest.HandWritten(t, servertest.After("HTTP/1.1 200 OK\r\nX-Vault-Token s.canary\r\n\r\n")), checks.ReasonBadResponse},
		{"it switches protocols", servertest.HandWritten(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\n")
			servertest.Hang(c)
		}), checks.ReasonUnavailable},
		{"its headers do not end", servertest.HandWritten(t, func(c net.Conn) {
			defer c.Close()
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(c, "X-Canary: "+strings.Repeat("x", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}), checks.ReasonBadResponse},
		{"TLS to a port that speaks plain HTTP", strings.Replace(plain.URL, "http:", "https:", 1), checks.ReasonTLS},
		{"plain HTTP to a port that speaks TLS", strings.Replace(private.URL, "https:", "http:", 1), checks.ReasonUnavailable},
		{"a certificate of an unknown authority", private.URL, checks.ReasonTLS},
		{"a TLS that is too old", old.URL, checks.ReasonTLS},
		{"a server that wants our certificate", strings.Replace(mutual.URL, "http:", "https:", 1), checks.ReasonTLS},
	} {
		for _, c := range []checks.Checker{vaultAt(t, test.url), oryAt(t, test.url)} {
			t.Run(test.when+"/"+c.Name(), func(t *testing.T) {
				t.Parallel()
				is := is.New(t)
				timeout := hungTimeout
				if test.want == checks.ReasonTimeout {
					timeout = time.Second
				}
				for range 3 { // connections left by the first check must not affect the next
					is.Equal(check(t, c, timeout), test.want)
				}
			})
		}
	}
}

// TestConnectionsAreNotLeftBehind checks that dials are bounded: net/http does not apply the
// request's deadline to them.
func TestConnectionsAreNotLeftBehind(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	address := servertest.HandWritten(t, func(conn net.Conn) {
		open.Add(1)
		defer open.Add(-1)
		servertest.Hang(conn)
	})
	for _, url := range []string{address, strings.Replace(address, "http:", "https:", 1)} {
		for _, c := range []checks.Checker{vaultAt(t, url), oryAt(t, url)} {
			for range 5 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				if reason := checks.ReasonOf(c.Check(ctx)); reason != checks.ReasonTimeout {
					t.Errorf("%s: %s", url, reason)
				}
				cancel()
			}
		}
	}
	for deadline := time.Now().Add(10 * time.Second); open.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", open.Load())
		}
	}
}

// TestServerThatClosesIdleConnectionsIsUp checks that a check which starts as the server closes an
// idle connection does not fail.
func TestServerThatClosesIdleConnectionsIsUp(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	server.Config.IdleTimeout = 5 * time.Millisecond
	server.Start()
	defer server.Close()
	ory := oryAt(t, server.URL)
	for range 200 {
		is.Equal(check(t, ory, hungTimeout), checks.Reason(""))
		time.Sleep(5 * time.Millisecond) // as the server's idle timeout expires
	}
}

// TestOneCheckIsOneRequest checks that a request is not repeated: net/http would retry it when a
// reused connection breaks, and a lookup may use up one of its token's uses.
func TestOneCheckIsOneRequest(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var requests atomic.Int64
	address := servertest.HandWritten(t, func(conn net.Conn) {
		defer conn.Close()
		buffer := make([]byte, 4096)
		for answered := 0; ; answered++ {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			requests.Add(1)
			if answered > 0 {
				return // reads a second request, and closes the connection
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}")
		}
	})
	ory := oryAt(t, address)
	for i := range 10 {
		check(t, ory, hungTimeout)
		is.Equal(requests.Load(), int64(i+1))
	}
}
