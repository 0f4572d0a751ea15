package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// TestRateLimitQuota: neighbours behind the same address use up a quota, and Vault answers lookups with 429. It says nothing of a token
// that was good.
func TestRateLimitQuota(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := start(t, p.environment()...)
	f.becomes(t, healthy(), soon)
	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPost, "sys/quotas/rate-limit/neighbours", map[string]any{"rate": 1, "interval": "1s"}, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 65*time.Second)
	defer cancel()
	limited := make(chan int, 1)
	go func() { // the neighbours
		n := 0
		for ctx.Err() == nil {
			if status, err := p.vault.LookupSelf(ctx, p.vault.Token); err == nil && status == http.StatusTooManyRequests {
				n++
			}
			pause(ctx, 5*time.Millisecond)
		}
		limited <- n
	}()
	probes := 0
	for ctx.Err() == nil { // two lookups of the function's own are due in this time
		is.Equal(f.probe(t), healthy())
		probes++
		pause(ctx, 50*time.Millisecond)
	}
	t.Log(probes, "probes, all ready;", <-limited, "of the neighbours' requests were limited")
}

// TestWhatIsNoToken is misconfigured where it can be seen without asking, for the variable and the file alike.
func TestWhatIsNoToken(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, devstack.VaultOptions{})
	issuer, err := devstack.NewIssuer()
	if err != nil {
		t.Fatal(err)
	}
	good := p.vault.Token.Reveal()
	for name, test := range map[string]struct{ token, hint string }{
		"in quotes":               {`"` + good + `"`, "quotes"},
		"a service account's":     {issuer.Token(time.Hour).Reveal(), "JWT"},
		"with the header around":  {"Bearer " + good, "header"},
		"with its name before it": {"token=" + good, "name before it"},
	} {
		for _, from := range []string{"the variable", "the file"} {
			t.Run(name+", from "+from, func(t *testing.T) {
				is := is.New(t)
				var f *function
				if from == "the file" {
					f = startWithTokenFile(t, p, written(t, test.token))
					f.becomes(t, state{vault: "misconfigured", ory: "ok"}, soon) // a probe waits 60 ms for the file to be read
				} else {
					f = start(t, p.environmentWith(devstack.Secret(test.token))...)
				}
				a := f.get(t.Context(), t, "/health/ready")
				is.True(strings.Contains(a.body, `"reason":"misconfigured"`))
				f.logs(t, test.hint)
			})
		}
	}
}

// TestWhereTheSecretIs tells the common mistakes apart.
func TestWhereTheSecretIs(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	for mount, version := range map[string]string{"old": "1", "team/kv": "2"} {
		in := map[string]any{"type": "kv", "options": map[string]string{"version": version}}
		is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPost, "sys/mounts/"+mount, in, nil))
	}
	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPut, "sys/policies/acl/"+devstack.SecretsPolicy, map[string]string{
		"policy": `path "secret/data/coffeebuddy/*" { capabilities = ["read"] }
			path "old/*" { capabilities = ["read"] }
			path "team/kv/data/slack" { capabilities = ["read"] }`,
	}, nil))
	big := devstack.Secret(strings.Repeat("x", 1<<20-1024))
	is.NoErr(p.vault.WriteSecret(t.Context(), "coffeebuddy/big", map[string]devstack.Secret{"signing_secret": "small", "certificate": big}))
	eventually(t, soon, func() bool { // a KV store refuses writes for its first moments
		return p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPost, "team/kv/data/slack", map[string]any{"data": map[string]string{"key": "value"}}, nil) == nil
	})
	is.NoErr(p.vault.WriteSecret(t.Context(), "coffeebuddy/deleted", map[string]devstack.Secret{"key": "value"}))
	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodDelete, "secret/data/coffeebuddy/deleted", nil, nil))
	token, err := p.vault.CreateToken(t.Context(), devstack.TokenOptions{Policies: []string{devstack.SecretsPolicy}})
	is.NoErr(err)
	for secret, hint := range map[string]string{
		"secret/coffeebuddy/slack#signing_secret":      "",
		"secret/coffeebuddy/big#signing_secret":        "", // nearly 1 MiB beside it
		"team/kv:slack#key":                            "",
		"team/kv/slack#key":                            "write mount:path",
		"secret/data/coffeebuddy/slack#signing_secret": "starts with data/",
		"secret/elsewhere/slack#signing_secret":        "policies do not allow",
		"secrets/coffeebuddy/slack#signing_secret":     "no such mount",
		"old/slack#key":                                "version 1",
		"secret/coffeebuddy/nothing#key":               "no such secret in it",
		"secret/coffeebuddy/deleted#key":               "deleted or destroyed",
		"secret/coffeebuddy/slack#Signing_Secret":      "differs in its case",
	} {
		t.Run(strings.ReplaceAll(secret, "/", "|"), func(t *testing.T) {
			is := is.New(t)
			f := start(t, append(p.environmentWith(token), "COFFEEBUDDY_SLACK_SECRET="+secret)...)
			f.becomes(t, healthy(), soon)
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/slack/commands", strings.NewReader("command=%2Fcoffee"))
			is.NoErr(err)
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set("X-Slack-Request-Timestamp", timestamp())
			request.Header.Set("X-Slack-Signature", "v0="+strings.Repeat("0", 64))
			response, err := f.client.Do(request)
			is.NoErr(err)
			response.Body.Close()
			if hint == "" {
				is.Equal(response.StatusCode, http.StatusUnauthorized) // there is a secret to say so with
				return
			}
			is.Equal(response.StatusCode, http.StatusServiceUnavailable)
			f.logs(t, hint)
		})
	}
}

// TestOryPublicURL: with a scope, ORY_BASE_URL must be Hydra's admin URL.
func TestOryPublicURL(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, devstack.VaultOptions{})
	f := startGuarded(t, p, "ORY_BASE_URL="+p.hydra.PublicURL)
	f.becomes(t, state{vault: "ok", ory: "misconfigured"}, soon)
	f.logs(t, "must be Hydra's admin URL")
	without := start(t, append(p.environment(), "ORY_BASE_URL="+p.hydra.PublicURL)...)
	without.becomes(t, healthy(), soon) // Hydra's public port is as good as another where no scope is asked for
}

// TestWildcardScope: whether events.* covers events.write is for Hydra to say, by its own strategy (wildcard is its default).
func TestWildcardScope(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := start(t, append(p.environment(), "COFFEEBUDDY_EVENTS_SCOPE=events.write", "COFFEEBUDDY_EVENTS_AUDIENCE=orders")...)
	f.becomes(t, healthy(), soon)
	covers, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events.*"}, "events.*")
	other, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "metrics.*"}, "metrics.*")
	ours, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events.write", Audience: []string{"orders"}}, "events.write")
	theirs, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events.write", Audience: []string{"coffeebuddy"}}, "events.write")
	is.Equal(f.send(t, covers).status, 200)
	is.Equal(f.send(t, other).status, 403)
	is.Equal(f.send(t, ours).status, 200)
	is.Equal(f.send(t, theirs).status, 401)
}

// timestamp is now, as Slack writes it.
func timestamp() string { return strconv.FormatInt(time.Now().Unix(), 10) }

// written returns a file with a text.
func written(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
