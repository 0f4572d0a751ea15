package checks_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/checks"

	"github.com/matryer/is"
)

const (
	healthPath = "/v1/sys/health"
	lookupPath = "/v1/auth/token/lookup-self"

	active     = `{"initialized":true,"sealed":false,"standby":false,"performance_standby":false,"version":"1.21.4"}`
	lookedUp   = `{"request_id":"1","data":{"id":"s.canary","num_uses":0,"ttl":3600,"policies":["default"]}}`
	wrongToken = `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`
)

// A canned answer of a server that plays Vault.
type canned struct {
	status int
	body   string
}

// vaultServer plays Vault: health and lookup-self answer as a test says.
type vaultServer struct {
	*httptest.Server
	mu             sync.Mutex
	health, lookup canned
	lookups        atomic.Int64
	requests       []*http.Request
}

func newVaultServer(t *testing.T) *vaultServer {
	t.Helper()
	v := &vaultServer{health: canned{200, active}, lookup: canned{200, lookedUp}}
	v.Server = httptest.NewServer(v)
	t.Cleanup(v.Close)
	return v
}

func (v *vaultServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests = append(v.requests, r)
	answer := v.health
	switch r.URL.Path {
	case healthPath:
	case lookupPath:
		v.lookups.Add(1)
		answer = v.lookup
	default:
		answer = canned{404, `{"errors":[]}`}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body)
}

func (v *vaultServer) set(health, lookup canned) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.health, v.lookup = health, lookup
}

func vaultAt(address string) *checks.Vault {
	return checks.NewVault(checks.VaultConfig{Address: address, Token: checks.FixedToken("s.canary")})
}

// check runs a check under a deadline that only a hung one meets.
func check(t *testing.T, c checks.Checker) checks.Reason {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := c.Check(ctx)
	if err != nil && strings.Contains(err.Error(), "canary") {
		t.Errorf("an error shows what it must not: %v", err)
	}
	return checks.ReasonOf(err)
}

func TestVaultStates(t *testing.T) {
	t.Parallel()
	health := func(fields string) string {
		return `{"initialized":true,"sealed":false,"server_time_utc":1` + fields + `}`
	}
	big := `{"initialized":true,"sealed":false,"x":"` + strings.Repeat("x", 64<<10) + `"}`
	ok := canned{200, lookedUp}
	for _, test := range []struct {
		when   string
		health canned
		lookup canned
		want   checks.Reason
	}{
		{"an active node", canned{200, active}, ok, ""},
		{"a standby", canned{429, health(`,"standby":true`)}, ok, ""},
		{"a standby that heeds the query", canned{200, health(`,"standby":true`)}, ok, ""},
		{"a performance standby", canned{473, health(`,"standby":true,"performance_standby":true`)}, ok, ""},
		{"a DR primary", canned{200, health(`,"replication_dr_mode":"primary"`)}, ok, ""},
		{"a standby that reaches its active node", canned{429, health(`,"standby":true,"ha_connection_healthy":true`)}, ok, ""},
		{"sealed", canned{503, `{"initialized":true,"sealed":true}`}, ok, checks.ReasonSealed},
		{"sealed, behind a proxy that lets 200 through", canned{200, `{"initialized":true,"sealed":true}`}, ok, checks.ReasonSealed},
		{"uninitialized", canned{501, `{"initialized":false,"sealed":true}`}, ok, checks.ReasonUninitialized},
		{"a DR secondary", canned{472, health(`,"standby":true,"replication_dr_mode":"secondary"`)}, ok, checks.ReasonInactive},
		{"removed from its cluster", canned{530, `{"initialized":true,"sealed":true,"removed_from_cluster":true}`}, ok, checks.ReasonInactive},
		{"a standby without its active node", canned{474, health(`,"standby":true,"ha_connection_healthy":false`)}, ok, checks.ReasonInactive},
		{"a gateway's 502", canned{502, "<html>bad gateway</html>"}, ok, checks.ReasonUnavailable},
		{"a 404", canned{404, `{"errors":[]}`}, ok, checks.ReasonUnavailable},
		{"a 204", canned{204, ""}, ok, checks.ReasonUnavailable},
		{"a rate limit that is not Vault's", canned{429, "slow down"}, ok, checks.ReasonUnavailable},
		{"a 403 on sys/health", canned{403, wrongToken}, ok, checks.ReasonUnavailable},
		{"a login page", canned{200, "<html>sign in</html>"}, ok, checks.ReasonBadResponse},
		{"an empty 200", canned{200, ""}, ok, checks.ReasonBadResponse},
		{"another server's JSON", canned{200, `{"status":"ok"}`}, ok, checks.ReasonBadResponse},
		{"an empty object", canned{200, `{}`}, ok, checks.ReasonBadResponse},
		{"half of it", canned{200, `{"initialized":true}`}, ok, checks.ReasonBadResponse},
		{"words for booleans", canned{200, `{"initialized":"true","sealed":"false"}`}, ok, checks.ReasonBadResponse},
		{"two texts", canned{200, active + active}, ok, checks.ReasonBadResponse},
		{"an answer over 64 KiB", canned{200, big}, ok, checks.ReasonBadResponse},
		{"an error over 64 KiB", canned{500, big}, ok, checks.ReasonUnavailable},

		{"a token it does not know", canned{200, active}, canned{403, wrongToken}, checks.ReasonDenied},
		{"lookup-self: 500", canned{200, active}, canned{500, `{"errors":["audit"]}`}, checks.ReasonUnavailable},
		{"lookup-self: 400", canned{200, active}, canned{400, `{"errors":["canary"]}`}, checks.ReasonUnavailable},
		{"lookup-self: 404", canned{200, active}, canned{404, `{"errors":[]}`}, checks.ReasonUnavailable},
		{"lookup-self: 299", canned{200, active}, canned{299, lookedUp}, checks.ReasonUnavailable},
		{"lookup-self: HTML", canned{200, active}, canned{200, "<html>"}, checks.ReasonBadResponse},
		{"lookup-self: {}", canned{200, active}, canned{200, "{}"}, checks.ReasonBadResponse},
		{"lookup-self: no data", canned{200, active}, canned{200, `{"data":null}`}, checks.ReasonBadResponse},
		{"lookup-self: nothing", canned{200, active}, canned{200, ""}, checks.ReasonBadResponse},
		{"lookup-self: another server's JSON", canned{200, active}, canned{200, `{"data":{"hello":"world"}}`}, checks.ReasonBadResponse},
		{"lookup-self: wrapped", canned{200, active}, canned{200, `{"data":null,"wrap_info":{"token":"x"}}`}, checks.ReasonBadResponse},
		{"lookup-self: uses that are no number", canned{200, active}, canned{200, `{"data":{"num_uses":"many"}}`}, checks.ReasonBadResponse},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			server := newVaultServer(t)
			server.set(test.health, test.lookup)
			is.Equal(check(t, vaultAt(server.URL)), test.want)
		})
	}
}

func TestVaultHealthIsAskedWithoutTokenAndNamespace(t *testing.T) {
	is := is.New(t)
	server := newVaultServer(t)
	vault := checks.NewVault(checks.VaultConfig{
		Address: server.URL + "/", Namespace: "team/coffee", Token: checks.FixedToken("s.canary"),
	})
	is.Equal(check(t, vault), checks.Reason(""))
	is.Equal(len(server.requests), 2)
	health, lookup := server.requests[0], server.requests[1]
	is.Equal(health.URL.Path, healthPath)
	is.Equal(health.Header.Get("X-Vault-Token"), "")
	is.Equal(health.Header.Get("X-Vault-Namespace"), "")
	is.Equal(lookup.URL.Path, lookupPath)
	is.Equal(lookup.Header.Get("X-Vault-Token"), "s.canary")
	is.Equal(lookup.Header.Get("X-Vault-Namespace"), "team/coffee")
}

func TestVaultTokenIsNeverSentWhereARedirectPoints(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			is := is.New(t)
			other := newVaultServer(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == healthPath {
					_, _ = io.WriteString(w, active)
					return
				}
				http.Redirect(w, r, other.URL+r.URL.Path, status)
			}))
			defer server.Close()
			is.Equal(check(t, vaultAt(server.URL)), checks.ReasonBadResponse) // a standby that redirects
			is.Equal(len(other.requests), 0)
		})
	}
}

func TestVaultEnvironmentOfItsOwnToolsChangesNothing(t *testing.T) {
	is := is.New(t)
	server := newVaultServer(t)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("VAULT_TOKEN", "s.other")
	t.Setenv("VAULT_NAMESPACE", "other")
	t.Setenv("VAULT_WRAP_TTL", "1m")
	is.Equal(check(t, vaultAt(server.URL)), checks.Reason(""))
	is.Equal(server.requests[1].Header.Get("X-Vault-Token"), "s.canary")
	is.Equal(server.requests[1].Header.Get("X-Vault-Namespace"), "")
	is.Equal(server.requests[1].Header.Get("X-Vault-Wrap-TTL"), "")
}

// handWritten serves a fixed answer to each connection without being an HTTP server.
func handWritten(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	return "http://" + listener.Addr().String()
}

// after reads what the client sends first and then writes an answer and closes.
func after(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, answer)
	}
}

// hang holds a connection until the client gives up.
func hang(conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(io.Discard, conn)
}

// TestConnectionsThatFail is about both checks: what breaks below HTTP is the same.
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
		{"it hangs", handWritten(t, hang), checks.ReasonTimeout},
		{"it hangs in the handshake", strings.Replace(handWritten(t, hang), "http:", "https:", 1), checks.ReasonTimeout},
		{"it closes at once", handWritten(t, func(c net.Conn) { c.Close() }), checks.ReasonRefused},
		{"it closes without an answer", handWritten(t, after("")), checks.ReasonRefused},
		{"it closes in the handshake", strings.Replace(handWritten(t, after("")), "http:", "https:", 1), checks.ReasonRefused},
		{"it resets", handWritten(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() }), checks.ReasonRefused},
		{"it closes within the headers", handWritten(t, after("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")), checks.ReasonRefused},
		{"it closes within the body", handWritten(t, after(ok)), checks.ReasonRefused},
		{"it hangs within the body", handWritten(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, ok)
			hang(c)
		}), checks.ReasonTimeout},
		{"it speaks SSH", handWritten(t, after("SSH-2.0-canary\r\n")), checks.ReasonBadResponse},
		{"its status is no number", handWritten(t, after("HTTP/1.1 canary OK\r\n\r\n")), checks.ReasonBadResponse},
		{"it echoes the request", handWritten(t, after("HTTP/1.1 200 OK\r\nX-Vault-Token s.canary\r\n\r\n")), checks.ReasonBadResponse},
		{"it switches protocols", handWritten(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: canary\r\n\r\n")
			hang(c)
		}), checks.ReasonUnavailable},
		{"its headers do not end", handWritten(t, func(c net.Conn) {
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
		for _, c := range []checks.Checker{vaultAt(test.url), checks.NewOry(test.url)} {
			t.Run(test.when+"/"+c.Name(), func(t *testing.T) {
				t.Parallel()
				is := is.New(t)
				for range 3 { // what a first check leaves behind must not change the next
					is.Equal(check(t, c), test.want)
				}
			})
		}
	}
}

func TestVaultPrivateCA(t *testing.T) {
	is := is.New(t)
	server := httptest.NewTLSServer(&vaultServer{health: canned{200, active}, lookup: canned{200, lookedUp}})
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	vault := checks.NewVault(checks.VaultConfig{Address: server.URL, CACert: file, Token: checks.FixedToken("s.canary")})

	is.Equal(check(t, vault), checks.ReasonMisconfigured) // there is no such file yet
	is.NoErr(os.WriteFile(file, []byte("no PEM"), 0o600))
	is.Equal(check(t, vault), checks.ReasonMisconfigured)
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	is.NoErr(os.WriteFile(file, certificate(t, "other"), 0o600))
	is.Equal(check(t, vault), checks.ReasonTLS)
	is.NoErr(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	is.Equal(check(t, vault), checks.Reason("")) // healed without a restart
}

func TestVaultDeniedIsAskedAgainWithGrowingPauses(t *testing.T) {
	lookups := vaultPlayedInMemory(t, canned{403, wrongToken})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		vault := lookups.check()
		var at []time.Duration
		for began := time.Now(); time.Since(began) < 150*time.Second; time.Sleep(100 * time.Millisecond) {
			before := lookups.count
			is.Equal(check(t, vault), checks.ReasonDenied) // and stays denied in between
			if lookups.count > before {
				at = append(at, time.Since(began).Truncate(time.Second))
			}
		}
		is.Equal(at, []time.Duration{0, 1e9, 3e9, 7e9, 15e9, 31e9, 61e9, 91e9, 121e9})

		lookups.token = "s.new" // a new token is asked for at once
		lookups.lookup = canned{200, lookedUp}
		is.Equal(check(t, vault), checks.Reason(""))
	})
}

func TestVaultTokenIsLookedUpEveryThirtySeconds(t *testing.T) {
	lookups := vaultPlayedInMemory(t, canned{200, lookedUp})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		vault := lookups.check()
		for began := time.Now(); time.Since(began) < 5*time.Minute; time.Sleep(time.Second) {
			is.Equal(check(t, vault), checks.Reason(""))
		}
		is.Equal(lookups.count, 10)
		lookups.lookup = canned{403, wrongToken} // revoked: seen within 30 s
		time.Sleep(30 * time.Second)
		is.Equal(check(t, vault), checks.ReasonDenied)
		lookups.lookup = canned{500, ""} // anything else says nothing of the token: asked again at the next check
		time.Sleep(time.Second)
		is.Equal(check(t, vault), checks.ReasonUnavailable)
		before := lookups.count
		lookups.lookup = canned{200, lookedUp}
		is.Equal(check(t, vault), checks.Reason(""))
		is.Equal(lookups.count, before+1)
	})
}

func TestVaultTokenWithLimitedUsesIsLookedUpOnce(t *testing.T) {
	lookups := vaultPlayedInMemory(t, canned{200, `{"data":{"id":"s.canary","num_uses":5}}`})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		vault := lookups.check()
		for range 1000 {
			is.Equal(check(t, vault), checks.Reason(""))
			time.Sleep(time.Second)
		}
		is.Equal(lookups.count, 1)
		is.Equal(strings.Count(lookups.logs.String(), "limited number of uses"), 1)
	})
}

func TestVaultClientIsLazyAndOurs(t *testing.T) {
	is := is.New(t)
	vault := vaultAt("http://127.0.0.1:1")
	client, err := vault.Client(t.Context())
	is.NoErr(err)
	is.Equal(client.Address(), "http://127.0.0.1:1")
	is.Equal(client.Token(), "s.canary")
	is.Equal(client.MaxRetries(), 0)
	again, err := vault.Client(t.Context())
	is.NoErr(err)
	is.Equal(client, again) // the same one

	_, err = checks.NewVault(checks.VaultConfig{
		Address: "http://127.0.0.1:1", CACert: "/nonexistent/canary", Token: checks.FixedToken(""),
	}).Client(t.Context())
	is.Equal(checks.ReasonOf(err), checks.ReasonMisconfigured)
	is.True(!strings.Contains(err.Error(), "canary"))
}

// TestConnectionsAreNotLeftBehind is about dials: net/http takes the request's
// deadline off them.
func TestConnectionsAreNotLeftBehind(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	address := handWritten(t, func(conn net.Conn) {
		open.Add(1)
		defer open.Add(-1)
		hang(conn)
	})
	for _, url := range []string{address, strings.Replace(address, "http:", "https:", 1)} {
		for _, c := range []checks.Checker{vaultAt(url), checks.NewOry(url)} {
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

// TestServerThatClosesIdleConnectionsIsUp: a check that starts as the server closes
// a connection for being idle must not take it for a failure.
func TestServerThatClosesIdleConnectionsIsUp(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	server.Config.IdleTimeout = 5 * time.Millisecond
	server.Start()
	defer server.Close()
	ory := checks.NewOry(server.URL)
	for range 200 {
		is.Equal(check(t, ory), checks.Reason(""))
		time.Sleep(5 * time.Millisecond) // as the server's patience ends
	}
}

// TestOneCheckIsOneRequest: net/http would send a request again when a connection
// that was used before breaks, and a lookup may spend a use of its token.
func TestOneCheckIsOneRequest(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var requests atomic.Int64
	address := handWritten(t, func(conn net.Conn) {
		defer conn.Close()
		buffer := make([]byte, 4096)
		for answered := 0; ; answered++ {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			requests.Add(1)
			if answered > 0 {
				return // reads a second request, and closes
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}")
		}
	})
	ory := checks.NewOry(address)
	for i := range 10 {
		check(t, ory)
		is.Equal(requests.Load(), int64(i+1))
	}
}
