package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// role is the role that functions log in with.
const role = "coffeebuddy"

// A login is a function that logs in to Vault's auth method jwt by a service account token in a file, and has no token of its own.
type login struct {
	*function

	platform
	issuer *devstack.Issuer
	file   string
}

// startLogin starts a function that logs in. Its file is empty until bring is called.
func startLogin(t *testing.T, p platform, issuer *devstack.Issuer, mount, role string, variables ...string) login {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	f := start(t, append([]string{
		"VAULT_ADDR=" + p.vault.URL, "ORY_BASE_URL=" + p.hydra.AdminURL,
		"VAULT_ROLE=" + role, "VAULT_AUTH_MOUNT=" + mount, "VAULT_JWT_FILE=" + file,
	}, variables...)...)
	return login{f, p, issuer, file}
}

// bring writes a service account token to the file, as kubelet does, which the function must not show.
func (l login) bring(t *testing.T, jwt devstack.Secret) {
	t.Helper()
	is := is.New(t)
	_, signed, _ := strings.Cut(jwt.Reveal(), ".") // the header is the same in every one
	l.secrets["service account token"] = append(l.secrets["service account token"], secretsOf([]string{"VAULT_TOKEN=" + signed})["VAULT_TOKEN"]...)
	is.NoErr(os.WriteFile(l.file+".tmp", []byte(jwt.Reveal()), 0o600))
	is.NoErr(os.Rename(l.file+".tmp", l.file))
}

// logins returns how many logins had an outcome.
func (l login) logins(t *testing.T, outcome string) int {
	t.Helper()
	return int(l.metrics(t.Context(), t)[`coffeebuddy_vault_logins_total{outcome="`+outcome+`"}`])
}

// startWithJWT is a platform whose Vault has the auth method jwt at team/jwt.
func startWithJWT(t *testing.T) (platform, *devstack.Issuer) {
	t.Helper()
	p := startPlatform(t, devstack.VaultOptions{})
	issuer, err := p.vault.EnableJWT(t.Context(), "team/jwt")
	if err != nil {
		t.Fatal(err)
	}
	return p, issuer
}

// accessors returns how many tokens Vault keeps.
func accessors(t *testing.T, p platform) int {
	t.Helper()
	var answer struct {
		Data struct{ Keys []string }
	}
	if err := p.vault.Call(t.Context(), p.vault.RootToken, "LIST", "auth/token/accessors", nil, &answer); err != nil {
		t.Fatal(err)
	}
	return len(answer.Data.Keys)
}

// TestLogin is of a first deploy that needs no secret: the token is there before the service account's, and is gone when the function is.
func TestLogin(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p, issuer := startWithJWT(t)
	is.NoErr(p.vault.WriteJWTRole(t.Context(), "team/jwt", role, devstack.RoleOptions{TTL: time.Hour}))
	before := accessors(t, p)
	t.Run("while it runs", func(t *testing.T) {
		is := is.New(t)
		l := startLogin(t, p, issuer, "team/jwt", role, "COFFEEBUDDY_SLACK_SECRET=secret/coffeebuddy/slack#signing_secret")
		l.becomes(t, state{vault: "misconfigured", ory: "ok"}, soon)
		is.Equal(accessors(t, p), before)
		l.bring(t, issuer.Token(10*time.Minute))
		l.becomes(t, healthy(), soon)
		is.Equal(accessors(t, p), before+1)
		is.Equal(l.logins(t, "done"), 1)
		left, ends := l.expires(t)
		is.True(ends && left > 59*time.Minute && left <= time.Hour)
		const in = `"logged in to Vault"`
		is.Equal(strings.Count(l.logs(t, in), in), 1)
	})
	is.Equal(accessors(t, p), before) // it was revoked
}

// TestLoginThatIsNone: without a login there is no series of it.
func TestLoginThatIsNone(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := start(t, "VAULT_TOKEN=hvs.any-that-is-long-enough")
	for name := range f.metrics(t.Context(), t) {
		is.True(!strings.HasPrefix(name, "coffeebuddy_vault_logins"))
	}
}

// TestLoginAndToken exclude each other.
func TestLoginAndToken(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := start(t, append(p.environment(), "VAULT_ROLE="+role)...)
	a := f.get(t.Context(), t, "/health/ready")
	is.True(strings.Contains(a.body, `"vault":{"status":"unavailable","reason":"misconfigured"`))
	is.True(strings.Contains(f.logged(t), "VAULT_ROLE"))
}

// TestRoles is of what roles give, each of it for some 20 s, in which the shortest ones end twice.
func TestRoles(t *testing.T) {
	t.Parallel()
	p, issuer := startWithJWT(t)
	const ttl = 9 * time.Second
	for name, test := range map[string]struct {
		options  devstack.RoleOptions
		from, to int // logins
	}{
		"periodic":                   {devstack.RoleOptions{Period: ttl}, 1, 1},
		"renewable up to a max TTL":  {devstack.RoleOptions{TTL: ttl, MaxTTL: ttl + 3*time.Second}, 2, 6},
		"renewable":                  {devstack.RoleOptions{TTL: ttl}, 1, 1},
		"batch":                      {devstack.RoleOptions{TTL: ttl, Type: "batch"}, 3, 6},
		"from this address":          {devstack.RoleOptions{TTL: time.Hour, BoundCIDRs: []string{"127.0.0.0/8"}}, 1, 1},
		"with limited uses":          {devstack.RoleOptions{TTL: time.Hour, NumUses: 50}, 1, 1},
		"without the default policy": {devstack.RoleOptions{TTL: time.Hour, NoDefaultPolicy: true}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			role := strings.ReplaceAll(name, " ", "-")
			is.NoErr(p.vault.WriteJWTRole(t.Context(), "team/jwt", role, test.options))
			l := startLogin(t, p, issuer, "team/jwt", role)
			l.bring(t, issuer.Token(10*time.Minute))
			l.becomes(t, healthy(), soon)
			for began := time.Now(); time.Since(began) < 20*time.Second; pause(t.Context(), 100*time.Millisecond) {
				is.Equal(l.probe(t), healthy())
			}
			n := l.logins(t, "done")
			is.True(n >= test.from && n <= test.to) // n
			is.Equal(l.logins(t, "denied")+l.logins(t, "failed"), 0)
			is.True(!strings.Contains(l.logged(t), "expires soon"))
		})
	}
}

// TestLoginsThatAreRefused are denied, with one line that says why, until what is wrong is mended.
func TestLoginsThatAreRefused(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p, issuer := startWithJWT(t)
	is.NoErr(p.vault.WriteJWTRole(t.Context(), "team/jwt", role, devstack.RoleOptions{TTL: time.Hour}))
	is.NoErr(p.vault.WriteJWTRole(t.Context(), "team/jwt", "elsewhere", devstack.RoleOptions{TTL: time.Hour, BoundCIDRs: []string{"192.0.2.0/24"}}))
	another, err := devstack.NewIssuer()
	is.NoErr(err)
	now := time.Now().Unix()
	claims := func(change map[string]any) devstack.Secret {
		claims := map[string]any{"sub": devstack.ServiceAccount, "aud": devstack.LoginAudience, "iat": now, "nbf": now, "exp": now + 600}
		maps.Copy(claims, change)
		return issuer.Sign(claims)
	}
	for name, test := range map[string]struct {
		mount, role string
		jwt         devstack.Secret
		hint        string
	}{
		"a role that is not there":  {"team/jwt", "nobody", claims(nil), "no such role"},
		"a mount that is not there": {"kubernetes", role, claims(nil), "no auth method"},
		"another audience":          {"team/jwt", role, claims(map[string]any{"aud": "kubernetes"}), "audience"},
		"another service account":   {"team/jwt", role, claims(map[string]any{"sub": "system:serviceaccount:other:other"}), "claim"},
		"another issuer":            {"team/jwt", role, another.Token(time.Hour), "does not say why"},
		"an expired one":            {"team/jwt", role, claims(map[string]any{"iat": now - 1200, "nbf": now - 1200, "exp": now - 600}), "compare the clocks"},
		"a clock that is ahead":     {"team/jwt", role, claims(map[string]any{"iat": now + 600, "nbf": now + 600, "exp": now + 1200}), "compare the clocks"},
		"another address":           {"team/jwt", "elsewhere", claims(nil), "does not say why"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			l := startLogin(t, p, issuer, test.mount, test.role)
			l.bring(t, test.jwt)
			l.becomes(t, state{vault: "denied", ory: "ok"}, soon)
			const refused = "Vault refuses the login"
			log := l.logs(t, refused)
			is.Equal(strings.Count(log, refused), 1)
			is.True(strings.Contains(log, `"role":"`+test.role+`","mount":"`+test.mount+`"`))
			l.logs(t, test.hint)
			is.True(l.logins(t, "denied") >= 1 && l.logins(t, "done") == 0)
			if test.role == role && test.mount == "team/jwt" {
				l.bring(t, issuer.Token(10*time.Minute))
				l.becomes(t, healthy(), 35*time.Second) // the pause grows up to 30 s
			}
		})
	}
}

// TestLoginThroughFaults of Vault: nothing of it needs a restart of the function.
func TestLoginThroughFaults(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p, issuer := startWithJWT(t)
	is.NoErr(p.vault.WriteJWTRole(t.Context(), "team/jwt", role, devstack.RoleOptions{TTL: time.Hour}))
	is.NoErr(p.vault.Seal(t.Context()))
	l := startLogin(t, p, issuer, "team/jwt", role, "VAULT_NAMESPACE=team/coffee") // which this edition of Vault takes for nothing
	l.bring(t, issuer.Token(10*time.Minute))
	l.becomes(t, state{vault: "sealed", ory: "ok"}, soon)
	is.Equal(l.logins(t, "failed"), 0) // it was not even tried
	is.NoErr(p.vault.Unseal(t.Context()))
	l.becomes(t, healthy(), soon)
	is.NoErr(p.vault.Seal(t.Context()))
	l.becomes(t, state{vault: "sealed", ory: "ok"}, soon)
	is.NoErr(p.vault.Unseal(t.Context()))
	l.becomes(t, healthy(), soon)
	is.Equal(l.logins(t, "done"), 1) // its token has outlived that

	// All tokens of the method are revoked: another login, and nobody sees anything.
	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPut, "sys/leases/revoke-prefix/auth/team/jwt/login", struct{}{}, nil))
	eventually(t, lookupSoon, func() bool {
		is.Equal(l.probe(t), healthy())
		return l.logins(t, "done") == 2
	})

	// The issuer's key is replaced, as with a new cluster: the old token is used as long as it lives.
	another, err := devstack.NewIssuer()
	is.NoErr(err)
	is.NoErr(p.vault.TrustIssuer(t.Context(), "team/jwt", another))
	is.Equal(l.probe(t), healthy())
	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPut, "sys/leases/revoke-prefix/auth/team/jwt/login", struct{}{}, nil))
	l.becomes(t, state{vault: "denied", ory: "ok"}, lookupSoon)
	l.bring(t, another.Token(10*time.Minute))
	l.becomes(t, healthy(), 35*time.Second)
}

// TestKubernetesLogin has Vault ask an API server's TokenReview, which a test plays.
func TestKubernetesLogin(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	var (
		mu      sync.Mutex
		account = "coffeebuddy"
		status  = http.StatusCreated
	)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var review struct {
			Spec struct {
				Token     string
				Audiences []string
			}
		}
		_ = json.NewDecoder(r.Body).Decode(&review)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":true,"audiences":["vault"],`+
			`"user":{"username":"system:serviceaccount:coffeebuddy:%s","uid":"1","groups":["system:serviceaccounts"]}}}`, account)
	}))
	defer api.Close()
	is.NoErr(p.vault.EnableKubernetes(t.Context(), "kubernetes", devstack.KubernetesAPI{URL: api.URL, ReviewerToken: "reviewer"}))
	is.NoErr(p.vault.WriteKubernetesRole(t.Context(), "kubernetes", role, "coffeebuddy", "coffeebuddy", devstack.RoleOptions{TTL: time.Hour}))
	issuer, err := devstack.NewIssuer()
	is.NoErr(err)
	jwt := func(account string) devstack.Secret {
		now := time.Now().Unix()
		return issuer.Sign(map[string]any{
			"iss": "kubernetes/serviceaccount", "aud": []string{"vault"}, "iat": now, "nbf": now, "exp": now + 600,
			"sub": "system:serviceaccount:coffeebuddy:" + account,
			"kubernetes.io": map[string]any{
				"namespace": "coffeebuddy", "serviceaccount": map[string]any{"name": account, "uid": "1"},
			},
		})
	}
	set := func(name string, code int) {
		mu.Lock()
		defer mu.Unlock()
		account, status = name, code
	}

	l := startLogin(t, p, issuer, "kubernetes", role)
	set("other", http.StatusCreated)
	l.bring(t, jwt("other"))
	l.becomes(t, state{vault: "denied", ory: "ok"}, soon)
	l.logs(t, "not for this service account")
	set("coffeebuddy", http.StatusCreated)
	l.bring(t, jwt("coffeebuddy"))
	l.becomes(t, healthy(), 35*time.Second)
	is.Equal(l.logins(t, "done"), 1)

	l = startLogin(t, p, issuer, "kubernetes", "nobody")
	l.bring(t, jwt("coffeebuddy"))
	l.becomes(t, state{vault: "denied", ory: "ok"}, soon)
	l.logs(t, "no such role")
}
