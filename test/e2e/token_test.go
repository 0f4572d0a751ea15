package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// TestTokens is of tokens as the function gets them.
func TestTokens(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, devstack.VaultOptions{})
	for name, test := range map[string]struct {
		options devstack.TokenOptions
		want    string
	}{
		"a usual one":                              {want: "ok"},
		"a periodic one":                           {options: devstack.TokenOptions{Period: time.Hour}, want: "ok"},
		"one without the default policy":           {options: devstack.TokenOptions{NoDefaultPolicy: true}, want: "ok"}, // its own has lookup-self
		"one of the default policy alone":          {options: devstack.TokenOptions{Policies: []string{}}, want: "ok"},
		"a wrapping one":                           {options: devstack.TokenOptions{WrapTTL: time.Minute}, want: "denied"}, // forever: it only unwraps
		"one that is not renewable, with a minute": {options: devstack.TokenOptions{NotRenewable: true, TTL: time.Minute}, want: "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			token, err := p.vault.CreateToken(t.Context(), test.options)
			is.NoErr(err)
			f := start(t, p.environmentWith(token)...)
			f.becomes(t, state{vault: test.want, ory: "ok"}, soon)
		})
	}
	t.Run("one that its Vault does not know", func(t *testing.T) {
		f := start(t, p.environmentWith("hvs.not-known-to-this-Vault")...)
		f.becomes(t, state{vault: "denied", ory: "ok"}, soon)
	})
}

// TestTokenWithoutLookupSelf is of a token whose policies let it read secrets, and not look at itself.
func TestTokenWithoutLookupSelf(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	token, err := p.vault.CreateToken(t.Context(), devstack.TokenOptions{Policies: []string{devstack.SecretsPolicy}, NoDefaultPolicy: true})
	is.NoErr(err)
	f := start(t, p.environmentWith(token)...)
	f.becomes(t, state{vault: "denied", ory: "ok"}, soon)

	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPut, "sys/policies/acl/"+devstack.SecretsPolicy, map[string]string{
		"policy": `path "auth/token/lookup-self" { capabilities = ["read"] }`,
	}, nil))
	f.becomes(t, healthy(), lookupSoon) // the pause after a denial grows from 1 s to 30 s
}

// TestTokenThatStopsWorking is of tokens that were good. What heals them is a new token, which a function that has its own from
// VAULT_TOKEN gets by a restart: there is nothing to see of it here.
func TestTokenThatStopsWorking(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, devstack.VaultOptions{})
	for name, stops := range map[string]func(context.Context, devstack.Secret) error{
		"revoked": p.vault.RevokeToken,
		"expired": func(ctx context.Context, token devstack.Secret) error {
			return p.vault.ShortenToken(ctx, token, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			token, err := p.vault.CreateToken(t.Context(), devstack.TokenOptions{})
			is.NoErr(err)
			f := start(t, p.environmentWith(token)...)
			f.becomes(t, healthy(), soon)
			is.NoErr(stops(t.Context(), token))
			f.becomes(t, state{vault: "denied", ory: "ok"}, lookupSoon)
		})
	}
}

// TestTokenWithNumUses outlives the 30 s after which any other token is looked up again.
func TestTokenWithNumUses(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	const uses = 5
	token, err := p.vault.CreateToken(t.Context(), devstack.TokenOptions{NumUses: uses})
	is.NoErr(err)
	f := start(t, p.environmentWith(token)...)
	f.becomes(t, healthy(), soon)
	is.Equal(usesLeft(t, p.vault, token), uses-1)

	is.NoErr(p.vault.Seal(t.Context()))
	f.becomes(t, state{vault: "sealed", ory: "ok"}, soon)
	is.NoErr(p.vault.Unseal(t.Context()))
	f.becomes(t, healthy(), soon)

	ready := time.Now()
	eventually(t, time.Minute, func() bool {
		is.Equal(f.probe(t), healthy()) // all along
		return time.Since(ready) > 32*time.Second
	})
	is.Equal(usesLeft(t, p.vault, token), uses-1) // for whoever reads a secret with it
	is.Equal(strings.Count(f.logged(t), "limited number of uses"), 1)
}

// usesLeft asks as the operator, which spends none.
func usesLeft(t *testing.T, vault *devstack.Vault, token devstack.Secret) int {
	t.Helper()
	var answer struct {
		Data struct {
			NumUses int `json:"num_uses"`
		} `json:"data"`
	}
	in := map[string]string{"token": token.Reveal()}
	if err := vault.Call(t.Context(), vault.RootToken, http.MethodPost, "auth/token/lookup", in, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Data.NumUses
}
