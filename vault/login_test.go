package vault_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/vault"

	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const serviceAccount = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.Y2FuYXJ5"

// A gate fakes Vault's auth method: it issues a token for each login, and knows which ones are
// valid.
type gate struct {
	ttl, max time.Duration
	fixed    bool // tokens are not renewable
	batch    bool
	answer   canned // response to logins, if it has a status

	mu      sync.Mutex
	logins  []time.Time
	jwts    []string
	tokens  map[string]time.Time // expiry of each token
	issued  map[string]time.Time
	revoked []string
}

func (g *gate) serve(r *http.Request) (canned, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	token := r.Header.Get("X-Vault-Token")
	switch {
	case r.URL.Path == healthPath:
		return canned{}, false
	case r.URL.Path == "/v1/auth/team/kubernetes/login":
		var body struct{ Role, JWT string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		g.logins = append(g.logins, time.Now())
		g.jwts = append(g.jwts, body.JWT)
		if g.answer.status != 0 {
			return g.answer, true
		}
		if body.Role != "coffeebuddy" || token != "" || r.Header.Get("X-Vault-Namespace") != "team" {
			return canned{500, "not as it should be"}, true
		}
		kind, name := "service", fmt.Sprint("hvs.canary-", len(g.logins))
		if g.batch {
			kind = "batch"
		}
		if g.tokens == nil {
			g.tokens, g.issued = map[string]time.Time{}, map[string]time.Time{}
		}
		g.tokens[name], g.issued[name] = time.Now().Add(g.ttl), time.Now()
		return canned{200, fmt.Sprintf(`{"auth":{"client_token":%q,"token_type":%q,"lease_duration":%d,"renewable":%t,"mfa_requirement":null}}`,
			name, kind, int(g.ttl.Seconds()), !g.fixed && !g.batch)}, true
	case !time.Now().Before(g.tokens[token]):
		return canned{403, wrongToken}, true
	case r.URL.Path == lookupPath:
		return canned{200, fmt.Sprintf(`{"data":{"id":"x","ttl":%d,"creation_ttl":%d,"renewable":%t}}`,
			int(time.Until(g.tokens[token]).Seconds()), int(g.ttl.Seconds()), !g.fixed && !g.batch)}, true
	case r.URL.Path == renewPath:
		end := time.Now().Add(g.ttl)
		if last := g.issued[token].Add(g.max); g.max != 0 && end.After(last) {
			end = last
		}
		g.tokens[token] = end
		return canned{200, fmt.Sprintf(`{"auth":{"client_token":"x","lease_duration":%d,"renewable":true}}`, int(time.Until(end).Seconds()))}, true
	case r.URL.Path == "/v1/auth/token/revoke-self":
		g.revoked = append(g.revoked, token)
		delete(g.tokens, token)
		return canned{204, ""}, true
	}
	return canned{200, `{"data":{"data":{"key":"value"}}}`}, true
}

func (g *gate) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.logins)
}

// A loginTest is a client that logs in, in a synctest bubble.
type loginTest struct {
	*is.I
	*played

	client   *vault.Client
	registry *prometheus.Registry
	jwt      string // content of the file
}

func withLogin(t *testing.T, g *gate, test func(t *testing.T, l loginTest)) {
	t.Helper()
	jwt := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(jwt, []byte(serviceAccount+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := &played{serve: g.serve}
		registry := prometheus.NewRegistry()
		client := newClient(t, vault.Config{
			Address: "http://vault.test", Namespace: "team", Log: p.logs.Logger(), Registry: registry,
			Login: vault.Login{Role: "coffeebuddy", Mount: "team/kubernetes", JWTFile: jwt},
		})
		vault.Dial(client, p.dial)
		test(t, loginTest{is.New(t), p, client, registry, jwt})
		if strings.Contains(p.logs.String(), "canary") || strings.Contains(p.logs.String(), serviceAccount) {
			t.Error("the log shows what it must not")
		}
	})
}

// outcomes checks the counted logins: done, denied, failed.
func (l loginTest) outcomes(done, denied, failed int) {
	l.Helper()
	l.NoErr(testutil.GatherAndCompare(l.registry, strings.NewReader(fmt.Sprintf(`# HELP coffeebuddy_vault_logins_total Logins to Vault, by outcome.
# TYPE coffeebuddy_vault_logins_total counter
coffeebuddy_vault_logins_total{outcome="denied"} %d
coffeebuddy_vault_logins_total{outcome="done"} %d
coffeebuddy_vault_logins_total{outcome="failed"} %d
`, denied, done, failed))))
}

func (l loginTest) read(t *testing.T) fault.Reason {
	t.Helper()
	value, err := l.client.Read(t.Context(), vault.KV{Mount: "secret", Path: "x", Key: "key"})
	if err == nil && value != "value" {
		t.Errorf("read %q", value)
	}
	return fault.ReasonOf(err)
}

func TestLoginIsLazyAndOneForAll(t *testing.T) {
	g := &gate{ttl: time.Hour}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		l.Equal(g.count(), 0)
		l.outcomes(0, 0, 0)
		var together sync.WaitGroup
		for range 20 {
			together.Go(func() { l.Equal(l.read(t), fault.Reason("")) })
		}
		together.Wait()
		l.Equal(check(t, l.client), fault.Reason(""))
		l.Equal(g.count(), 1)
		l.Equal(g.jwts, []string{serviceAccount})
		l.True(time.Until(l.client.TokenExpiry()) > 59*time.Minute)
		l.outcomes(1, 0, 0)
		l.Equal(strings.Count(l.logs.String(), `"role":"coffeebuddy","mount":"team/kubernetes"`), 1)
		l.client.Close(t.Context())
		l.Equal(g.revoked, []string{"hvs.canary-1"})
		l.client.Close(t.Context())
		l.Equal(len(g.revoked), 1)
	})
}

func TestLoginThatIsNotUsedNeedsNoEnd(t *testing.T) {
	g := &gate{ttl: time.Hour}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		l.client.Close(t.Context())
		l.Equal(g.count()+len(g.revoked), 0)
	})
}

// TestLoginUnderWayAtClose checks that its token is revoked, and that of the login before it even if
// this one hangs.
func TestLoginUnderWayAtClose(t *testing.T) {
	for _, test := range []struct{ takes, closes time.Duration }{{time.Second, time.Second}, {time.Minute, 2 * time.Second}} {
		g := &gate{ttl: 30 * time.Minute, fixed: true}
		withLogin(t, g, func(t *testing.T, l loginTest) {
			takes, wanted := time.Duration(0), []string{"hvs.canary-1"}
			l.serve = func(r *http.Request) (canned, bool) {
				if strings.HasSuffix(r.URL.Path, "/login") {
					time.Sleep(takes)
				}
				return g.serve(r)
			}
			l.Equal(check(t, l.client), fault.Reason(""))
			time.Sleep(25 * time.Minute)
			takes = test.takes
			l.Equal(check(t, l.client), fault.Reason("")) // starts a login
			synctest.Wait()
			began := time.Now()
			l.client.Close(t.Context())
			l.Equal(time.Since(began), test.closes)
			if test.takes == test.closes {
				wanted = append(wanted, "hvs.canary-2")
			}
			l.Equal(g.revoked, wanted)
			time.Sleep(time.Minute)
		})
	}
}

// TestLoginBeforeTheTokenEnds checks that there is always a valid token, with no more logins than
// needed.
func TestLoginBeforeTheTokenEnds(t *testing.T) {
	pause := 30 * time.Second
	if testing.Short() {
		pause = 2 * time.Minute // make e2e runs all of it
	}
	for _, test := range []struct {
		when     string
		gate     *gate
		from, to int // number of logins in six hours
	}{
		{"renewed up to its max TTL", &gate{ttl: 10 * time.Minute, max: 40 * time.Minute}, 9, 14},
		{"without a max TTL", &gate{ttl: 10 * time.Minute}, 1, 1},
		{"not renewable", &gate{ttl: 30 * time.Minute, fixed: true}, 17, 20},
		{"batch", &gate{ttl: 30 * time.Minute, batch: true}, 17, 20},
	} {
		t.Run(test.when, func(t *testing.T) {
			withLogin(t, test.gate, func(t *testing.T, l loginTest) {
				for began := time.Now(); time.Since(began) < 6*time.Hour; time.Sleep(pause) {
					l.Equal(check(t, l.client), fault.Reason(""))
					l.Equal(l.read(t), fault.Reason(""))
					synctest.Wait()
				}
				n := test.gate.count()
				l.True(n >= test.from && n <= test.to) // n
				l.outcomes(n, 0, 0)
				l.True(!strings.Contains(l.logs.String(), "expires soon"))
				l.client.Close(t.Context())
				l.Equal(len(test.gate.revoked) == 0, test.gate.batch) // a batch token cannot be revoked
			})
		})
	}
}

func TestLoginAfterTheTokenWasRevoked(t *testing.T) {
	g := &gate{ttl: time.Hour}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		l.Equal(l.read(t), fault.Reason(""))
		g.set(func() { g.tokens = map[string]time.Time{} })
		l.Equal(l.read(t), fault.Reason("")) // it logs in and retries
		l.Equal(g.count(), 2)
		g.set(func() { g.tokens = map[string]time.Time{} })
		time.Sleep(31 * time.Second)
		l.Equal(check(t, l.client), fault.Reason("")) // a check does the same, at its next lookup
		l.Equal(g.count(), 3)
	})
}

func TestLoginAfterTheTokenHasExpiredUnused(t *testing.T) {
	g := &gate{ttl: 10 * time.Minute}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		l.Equal(check(t, l.client), fault.Reason(""))
		time.Sleep(time.Hour) // as a frozen pod would
		l.Equal(check(t, l.client), fault.Reason(""))
		l.Equal(g.count(), 2)
	})
}

// TestLoginsThatAreRefused checks that refused logins are retried with a growing pause, and that
// one line logs the cause.
func TestLoginsThatAreRefused(t *testing.T) {
	statuses := []int{400, 403, 404}
	if testing.Short() {
		statuses = statuses[:1] // make e2e runs all of them
	}
	for body, hint := range map[string]string{
		`{"errors":["invalid role name \"canary\""]}`:                    "no such role",
		`{"errors":["role \"canary\" could not be found"]}`:              "no such role",
		`{"errors":["service account name not authorized"]}`:             "not for this service account",
		`{"errors":["namespace not authorized"]}`:                        "not for this namespace",
		`{"errors":["invalid audience (aud) claim: audience canary"]}`:   "audience",
		`{"errors":["validating token: token is expired canary"]}`:       "compare the clocks",
		`{"errors":["no handler for route \"auth/x/login\". canary"]}`:   "no auth method at the mount",
		`{"errors":["permission denied"]}`:                               "does not say why",
		`<html>canary</html>`:                                            "does not say why",
		`{"errors":["claim \"canary\" does not match any bound claim"]}`: "a claim of the service account token",
	} {
		for _, status := range statuses {
			g := &gate{ttl: time.Hour, answer: canned{status, body}}
			withLogin(t, g, func(t *testing.T, l loginTest) {
				l.Equal(checkFor(t, l.client, 2*time.Minute)[fault.Denied], 120)
				l.Equal(l.read(t), fault.Denied)
				n := g.count()
				l.True(n >= 6 && n <= 9) // 0, 1, 3, 7, 15, 31, 61, 91
				l.outcomes(0, n, 0)
				l.Equal(strings.Count(l.logs.String(), "Vault refuses the login"), 1)
				l.True(strings.Contains(l.logs.String(), hint)) // body
				l.True(strings.Contains(l.logs.String(), `"role":"coffeebuddy","mount":"team/kubernetes"`))
				g.set(func() { g.answer = canned{} })
				time.Sleep(30 * time.Second)
				l.Equal(check(t, l.client), fault.Reason(""))
			})
		}
	}
}

// TestLoginWhoseTokensAreRefused checks that a policy without lookup-self causes an occasional
// login, not one per check.
func TestLoginWhoseTokensAreRefused(t *testing.T) {
	g := &gate{ttl: 0}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		g.set(func() {
			g.answer = canned{200, `{"auth":{"client_token":"hvs.dead","token_type":"service","lease_duration":3600,"renewable":true}}`}
		})
		l.Equal(checkFor(t, l.client, 5*time.Minute)[fault.Denied], 300)
		l.True(g.count() <= 20) // g.count()
	})
}

func TestLoginsThatFail(t *testing.T) {
	for _, test := range []struct {
		answer canned
		reason fault.Reason
		denied int
	}{
		{canned{500, `{"errors":["canary"]}`}, fault.Unavailable, 0},
		{canned{503, `{"errors":["Vault is sealed"]}`}, fault.Unavailable, 0},
		{canned{429, `{"errors":["canary"]}`}, fault.Unavailable, 0},
		{canned{200, `<html>canary</html>`}, fault.BadResponse, 0},
		{canned{200, `{"data":{}}`}, fault.BadResponse, 0},
		{canned{200, `{"auth":{"client_token":""}}`}, fault.BadResponse, 0},
		{canned{200, `{"auth":{"client_token":"hvs.\ncanary"}}`}, fault.BadResponse, 0},
		{canned{200, `{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"canary"}}}`}, fault.Denied, 1},
	} {
		g := &gate{ttl: time.Hour, answer: test.answer}
		withLogin(t, g, func(t *testing.T, l loginTest) {
			l.Equal(check(t, l.client), test.reason)
			l.outcomes(0, test.denied, 1-test.denied)
			g.set(func() { g.answer = canned{} })
			time.Sleep(time.Second)
			l.Equal(check(t, l.client), fault.Reason("")) // within a second
		})
	}
}

// TestLoginThatFailsBesideAGoodToken checks that a failed login is retried with a growing pause,
// and that the token is used until it expires.
func TestLoginThatFailsBesideAGoodToken(t *testing.T) {
	g := &gate{ttl: 30 * time.Minute, batch: true}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		l.Equal(check(t, l.client), fault.Reason(""))
		g.set(func() { g.answer = canned{500, ""} })
		reasons := checkFor(t, l.client, 30*time.Minute-2*time.Second)
		l.Equal(len(reasons), 1)
		l.True(reasons[""] > 0)
		l.True(g.count() < 35)
		l.Equal(strings.Count(l.logs.String(), "the login to Vault failed"), 1)
		g.set(func() { g.answer = canned{} })
		time.Sleep(30 * time.Second)
		l.Equal(check(t, l.client), fault.Reason(""))
	})
}

// TestLoginThatFailsUntilTheTokenEnds checks that the pause after a failed login ends with the token,
// unless Vault denies the login or limits its rate.
func TestLoginThatFailsUntilTheTokenEnds(t *testing.T) {
	for status, paced := range map[int]bool{403: true, 429: true, 500: false, 503: false} {
		delayed := false
		for offset := range 30 {
			g := &gate{ttl: 30 * time.Minute, batch: true}
			withLogin(t, g, func(t *testing.T, l loginTest) {
				l.Equal(check(t, l.client), fault.Reason(""))
				time.Sleep(28*time.Minute + time.Duration(offset)*time.Second)
				g.set(func() { g.answer = canned{status, ""} })
				checkFor(t, l.client, time.Until(l.client.TokenExpiry())-time.Second)
				l.True(g.count() > 1 && g.count() < 12)
				g.set(func() { g.answer = canned{} })
				time.Sleep(time.Second)
				if check(t, l.client) != "" {
					delayed = true
				}
				time.Sleep(30 * time.Second)
				l.Equal(check(t, l.client), fault.Reason(""))
			})
		}
		is.New(t).Equal(delayed, paced) // status
	}
}

func TestServiceAccountTokenIsReadAtEachLogin(t *testing.T) {
	g := &gate{ttl: 30 * time.Minute, batch: true}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		l.NoErr(os.Remove(l.jwt))
		l.Equal(check(t, l.client), fault.Misconfigured)
		for _, content := range []string{"", "canary", "hvs.canary", serviceAccount + " " + serviceAccount, strings.Repeat("canary", 1<<20)} {
			l.NoErr(os.WriteFile(l.jwt, []byte(content), 0o600))
			l.Equal(check(t, l.client), fault.Misconfigured)
			l.Equal(l.read(t), fault.Misconfigured)
		}
		l.Equal(g.count(), 0)
		l.outcomes(0, 0, 0)
		l.NoErr(os.WriteFile(l.jwt, []byte(serviceAccount), 0o600))
		l.Equal(check(t, l.client), fault.Reason(""))
		l.NoErr(os.WriteFile(l.jwt, []byte(serviceAccount+"2"), 0o600))
		checkFor(t, l.client, 25*time.Minute)
		l.Equal(g.jwts, []string{serviceAccount, serviceAccount + "2"})
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	token := vault.FixedToken("s.canary")
	for _, test := range []struct {
		when   string
		config vault.Config
		good   bool
	}{
		{"a token", vault.Config{Address: "http://vault", Token: token}, true},
		{"a role", vault.Config{Address: "http://vault", Login: vault.Login{Role: "r"}}, true},
		{"nothing", vault.Config{}, false},
		{"no address", vault.Config{Token: token}, false},
		{"neither", vault.Config{Address: "http://vault"}, false},
		{"both", vault.Config{Address: "http://vault", Token: token, Login: vault.Login{Role: "r"}}, false},
		{"a login without a role", vault.Config{Address: "http://vault", Login: vault.Login{Mount: "jwt"}}, false},
	} {
		_, err := vault.New(test.config)
		is.New(t).Equal(err == nil, test.good) // test.when
	}
}

// TestNilClient checks the client of missing or wrong settings.
func TestNilClient(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var client *vault.Client
	_, err := client.Read(t.Context(), vault.KV{Mount: "secret", Path: "x", Key: "y"})
	is.Equal(fault.ReasonOf(err), fault.Misconfigured)
	_, err = client.Secret(t.Context(), vault.KV{Mount: "secret", Path: "x"})
	is.Equal(fault.ReasonOf(err), fault.Misconfigured)
	_, err = client.API(t.Context())
	is.Equal(fault.ReasonOf(err), fault.Misconfigured)
	lease := client.Lease("database/creds/x")
	_, err = lease.Get(t.Context())
	is.Equal(fault.ReasonOf(err), fault.Misconfigured)
	lease.Refused(1)
	is.True(client.TokenExpiry().IsZero())
	client.Close(t.Context())
}
