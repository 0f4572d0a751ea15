package vault_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
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

	"coffeebuddy/internal/fault"
	"coffeebuddy/vault"

	"github.com/matryer/is"
)

const (
	healthPath = "/v1/sys/health"
	lookupPath = "/v1/auth/token/lookup-self"

	active     = `{"initialized":true,"sealed":false,"standby":false,"performance_standby":false,"version":"1.21.4"}`
	lookedUp   = `{"request_id":"1","data":{"id":"s.canary","num_uses":0,"ttl":3600,"policies":["default"]}}`
	wrongToken = `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`
)

// A canned response of a fake Vault.
type canned struct {
	status int
	body   string
}

// header returns the response's headers: a rate limit sets Retry-After.
func (c canned) header() map[string]string {
	if c.status == http.StatusTooManyRequests && strings.Contains(c.body, "come back in 50 s") {
		return map[string]string{"Retry-After": "50"}
	}
	return nil
}

// vaultServer is a fake Vault whose health and lookup-self return what a test sets.
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

func newClient(t *testing.T, config vault.Config) *vault.Client {
	t.Helper()
	client, err := vault.New(config)
	is.New(t).NoErr(err)
	return client
}

func clientAt(t *testing.T, address string) *vault.Client {
	t.Helper()
	return newClient(t, vault.Config{Address: address, Token: vault.FixedToken("s.canary")})
}

// check checks what package checks does, with a timeout that only a hung check exceeds.
func check(t *testing.T, client *vault.Client) fault.Reason {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, ask := range []func(context.Context) error{client.Identify, client.Health, client.Verify} {
		if err := ask(ctx); err != nil {
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("an error shows what it must not: %v", err)
			}
			return fault.ReasonOf(err)
		}
	}
	return ""
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
		want   fault.Reason
	}{
		{"an active node", canned{200, active}, ok, ""},
		{"a standby", canned{429, health(`,"standby":true`)}, ok, ""},
		{"a standby that heeds the query", canned{200, health(`,"standby":true`)}, ok, ""},
		{"a performance standby", canned{473, health(`,"standby":true,"performance_standby":true`)}, ok, ""},
		{"a DR primary", canned{200, health(`,"replication_dr_mode":"primary"`)}, ok, ""},
		{"a standby that reaches its active node", canned{429, health(`,"standby":true,"ha_connection_healthy":true`)}, ok, ""},
		{"sealed", canned{503, `{"initialized":true,"sealed":true}`}, ok, fault.Sealed},
		{"sealed, behind a proxy that lets 200 through", canned{200, `{"initialized":true,"sealed":true}`}, ok, fault.Sealed},
		{"uninitialized", canned{501, `{"initialized":false,"sealed":true}`}, ok, fault.Uninitialized},
		{"a DR secondary", canned{472, health(`,"standby":true,"replication_dr_mode":"secondary"`)}, ok, fault.Inactive},
		{"removed from its cluster", canned{530, `{"initialized":true,"sealed":true,"removed_from_cluster":true}`}, ok, fault.Inactive},
		{"a standby without its active node", canned{474, health(`,"standby":true,"ha_connection_healthy":false`)}, ok, fault.Inactive},
		{"a gateway's 502", canned{502, "<html>bad gateway</html>"}, ok, fault.Unavailable},
		{"a 404", canned{404, `{"errors":[]}`}, ok, fault.Unavailable},
		{"a 204", canned{204, ""}, ok, fault.Unavailable},
		{"a rate limit that is not Vault's", canned{429, "slow down"}, ok, fault.Unavailable},
		{"a 403 on sys/health", canned{403, wrongToken}, ok, fault.Unavailable},
		{"a login page", canned{200, "<html>sign in</html>"}, ok, fault.BadResponse},
		{"an empty 200", canned{200, ""}, ok, fault.BadResponse},
		{"another server's JSON", canned{200, `{"status":"ok"}`}, ok, fault.BadResponse},
		{"an empty object", canned{200, `{}`}, ok, fault.BadResponse},
		{"half of it", canned{200, `{"initialized":true}`}, ok, fault.BadResponse},
		{"words for booleans", canned{200, `{"initialized":"true","sealed":"false"}`}, ok, fault.BadResponse},
		{"two texts", canned{200, active + active}, ok, fault.BadResponse},
		{"an answer over 64 KiB", canned{200, big}, ok, fault.BadResponse},
		{"an error over 64 KiB", canned{500, big}, ok, fault.Unavailable},

		{"a token it does not know", canned{200, active}, canned{403, wrongToken}, fault.Denied},
		{"lookup-self: 500", canned{200, active}, canned{500, `{"errors":["audit"]}`}, fault.Unavailable},
		{"lookup-self: 400", canned{200, active}, canned{400, `{"errors":["canary"]}`}, fault.Unavailable},
		{"lookup-self: 404", canned{200, active}, canned{404, `{"errors":[]}`}, fault.Unavailable},
		{"lookup-self: 299", canned{200, active}, canned{299, lookedUp}, fault.Unavailable},
		{"lookup-self: HTML", canned{200, active}, canned{200, "<html>"}, fault.BadResponse},
		{"lookup-self: {}", canned{200, active}, canned{200, "{}"}, fault.BadResponse},
		{"lookup-self: no data", canned{200, active}, canned{200, `{"data":null}`}, fault.BadResponse},
		{"lookup-self: nothing", canned{200, active}, canned{200, ""}, fault.BadResponse},
		{"lookup-self: another server's JSON", canned{200, active}, canned{200, `{"data":{"hello":"world"}}`}, fault.BadResponse},
		{"lookup-self: wrapped", canned{200, active}, canned{200, `{"data":null,"wrap_info":{"token":"x"}}`}, fault.BadResponse},
		{"lookup-self: uses that are no number", canned{200, active}, canned{200, `{"data":{"num_uses":"many"}}`}, fault.BadResponse},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			server := newVaultServer(t)
			server.set(test.health, test.lookup)
			is.Equal(check(t, clientAt(t, server.URL)), test.want)
		})
	}
}

func TestVaultHealthIsAskedWithoutTokenAndNamespace(t *testing.T) {
	is := is.New(t)
	server := newVaultServer(t)
	client := newClient(t, vault.Config{
		Address: server.URL + "/", Namespace: "team/coffee", Token: vault.FixedToken("s.canary"),
	})
	is.Equal(check(t, client), fault.Reason(""))
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
			is.Equal(check(t, clientAt(t, server.URL)), fault.BadResponse) // a standby that redirects
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
	is.Equal(check(t, clientAt(t, server.URL)), fault.Reason(""))
	is.Equal(server.requests[1].Header.Get("X-Vault-Token"), "s.canary")
	is.Equal(server.requests[1].Header.Get("X-Vault-Namespace"), "")
	is.Equal(server.requests[1].Header.Get("X-Vault-Wrap-TTL"), "")
}

func TestVaultPrivateCA(t *testing.T) {
	is := is.New(t)
	server := httptest.NewTLSServer(&vaultServer{health: canned{200, active}, lookup: canned{200, lookedUp}})
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	client := newClient(t, vault.Config{Address: server.URL, CACert: file, Token: vault.FixedToken("s.canary")})

	is.Equal(check(t, client), fault.Misconfigured) // the file does not exist yet
	is.NoErr(os.WriteFile(file, []byte("no PEM"), 0o600))
	is.Equal(check(t, client), fault.Misconfigured)
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	is.NoErr(os.WriteFile(file, certificate(t, "other"), 0o600))
	is.Equal(check(t, client), fault.TLS)
	is.NoErr(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	is.Equal(check(t, client), fault.Reason("")) // recovered without a restart
}

func TestVaultDeniedIsAskedAgainWithGrowingPauses(t *testing.T) {
	lookups := vaultPlayedInMemory(t, canned{403, wrongToken})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		client := lookups.client(t)
		var at []time.Duration
		for began := time.Now(); time.Since(began) < 150*time.Second; time.Sleep(100 * time.Millisecond) {
			before := lookups.count
			is.Equal(check(t, client), fault.Denied) // and stays denied meanwhile
			if lookups.count > before {
				at = append(at, time.Since(began).Truncate(time.Second))
			}
		}
		is.Equal(at, []time.Duration{0, 1e9, 3e9, 7e9, 15e9, 31e9, 61e9, 91e9, 121e9})

		lookups.token = "s.new" // a new token is looked up immediately
		lookups.lookup = canned{200, lookedUp}
		is.Equal(check(t, client), fault.Reason(""))
	})
}

func TestVaultTokenIsLookedUpEveryThirtySeconds(t *testing.T) {
	lookups := vaultPlayedInMemory(t, canned{200, lookedUp})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		client := lookups.client(t)
		for began := time.Now(); time.Since(began) < 5*time.Minute; time.Sleep(time.Second) {
			is.Equal(check(t, client), fault.Reason(""))
		}
		is.Equal(lookups.count, 10)
		lookups.lookup = canned{403, wrongToken} // revoked: noticed within 30 s
		time.Sleep(30 * time.Second)
		is.Equal(check(t, client), fault.Denied)
		lookups.lookup = canned{500, ""} // other statuses say nothing about the token: it is looked up again with the next check
		time.Sleep(time.Second)
		is.Equal(check(t, client), fault.Unavailable)
		before := lookups.count
		lookups.lookup = canned{200, lookedUp}
		is.Equal(check(t, client), fault.Reason(""))
		is.Equal(lookups.count, before+1)
	})
}

func TestVaultTokenWithLimitedUsesIsLookedUpOnce(t *testing.T) {
	lookups := vaultPlayedInMemory(t, canned{200, `{"data":{"id":"s.canary","num_uses":5}}`})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		client := lookups.client(t)
		for range 1000 {
			is.Equal(check(t, client), fault.Reason(""))
			time.Sleep(time.Second)
		}
		is.Equal(lookups.count, 1)
		is.Equal(strings.Count(lookups.logs.String(), "limited number of uses"), 1)
	})
}

// TestTokenThatChangesDuringAUse checks that each request is sent with the token that it was made for.
func TestTokenThatChangesDuringAUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		hangs, sent := make(chan struct{}), []string{}
		p := &played{token: "s.old"}
		p.serve = func(r *http.Request) (canned, bool) {
			sent = append(sent, r.Header.Get("X-Vault-Token"))
			if r.URL.Path == lookupPath {
				<-hangs
			}
			return canned{500, ""}, true
		}
		client := p.client(t)
		for range 2 { // the second one waits for the first
			go func() { is.Equal(fault.ReasonOf(client.Verify(t.Context())), fault.Unavailable) }()
		}
		synctest.Wait()
		is.Equal(sent, []string{"s.old"})
		before, err := client.API(t.Context())
		is.NoErr(err)
		p.token = "s.new"
		_, err = client.Secret(t.Context(), vault.KV{Mount: "secret", Path: "x"})
		is.Equal(fault.ReasonOf(err), fault.Unavailable)
		is.Equal(sent, []string{"s.old", "s.new"})
		is.Equal(before.Token(), "s.old")
		close(hangs)
		synctest.Wait()
		is.Equal(sent, []string{"s.old", "s.new", "s.old"})
	})
}

func TestVaultClientIsLazyAndOurs(t *testing.T) {
	is := is.New(t)
	client := clientAt(t, "http://127.0.0.1:1")
	ours, err := client.API(t.Context())
	is.NoErr(err)
	is.Equal(ours.Address(), "http://127.0.0.1:1")
	is.Equal(ours.Token(), "s.canary")
	is.Equal(ours.MaxRetries(), 0)
	again, err := client.API(t.Context())
	is.NoErr(err)
	is.Equal(ours, again) // the same client

	_, err = newClient(t, vault.Config{
		Address: "http://127.0.0.1:1", CACert: "/nonexistent/canary", Token: vault.FixedToken(""),
	}).API(t.Context())
	is.Equal(fault.ReasonOf(err), fault.Misconfigured)
	is.True(!strings.Contains(err.Error(), "canary"))
}
