package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

const expiry = "coffeebuddy_vault_token_expiry_timestamp_seconds"

// expires returns how long the token lives from now on, as the function says; ok is false where it knows of no end.
func (f *function) expires(t *testing.T) (left time.Duration, ok bool) {
	t.Helper()
	at, found := f.metrics(t.Context(), t)[expiry]
	if !found {
		t.Fatal("there is no " + expiry)
	}
	return time.Until(time.Unix(int64(at), 0)), at != 0
}

// startWithTokenFile starts a function that has its token from a file, and a token of its environment that is good for nothing.
func startWithTokenFile(t *testing.T, p platform, file string) *function {
	t.Helper()
	return start(t, append(p.environmentWith("hvs.loses-against-the-file"), "VAULT_TOKEN_FILE="+file)...)
}

// newToken creates a token, which the function must not show from now on.
func newToken(t *testing.T, p platform, f *function, options devstack.TokenOptions) devstack.Secret {
	t.Helper()
	token, err := p.vault.CreateToken(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		f.secrets["VAULT_TOKEN"] = append(f.secrets["VAULT_TOKEN"], secretsOf([]string{"VAULT_TOKEN=" + token.Reveal()})["VAULT_TOKEN"]...)
	}
	return token
}

// TestTokenFile is of a token that comes late, is replaced in each of the usual ways, and is revoked in the end.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	f := startWithTokenFile(t, p, file)
	f.becomes(t, state{vault: "misconfigured", ory: "ok"}, soon) // with Retry-After: no restart is needed
	_, ends := f.expires(t)
	is.True(!ends)

	write := func(token devstack.Secret) { is.NoErr(os.WriteFile(file, []byte(token.Reveal()+"\n"), 0o600)) }
	rename := func(token devstack.Secret) {
		is.NoErr(os.WriteFile(file+".tmp", []byte(token.Reveal()), 0o600))
		is.NoErr(os.Rename(file+".tmp", file))
	}
	volumes := 0
	volume := func(token devstack.Secret) { // as kubelet updates a Secret
		volumes++
		version := filepath.Join(dir, "..version"+strings.Repeat("x", volumes))
		is.NoErr(os.Mkdir(version, 0o700))
		is.NoErr(os.WriteFile(filepath.Join(version, "token"), []byte(token.Reveal()), 0o400))
		is.NoErr(os.Symlink(version, filepath.Join(dir, "..data_tmp")))
		is.NoErr(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if volumes == 1 {
			is.NoErr(os.Remove(file))
			is.NoErr(os.Symlink("..data/token", file))
		}
	}
	for _, replace := range []func(devstack.Secret){write, rename, volume, volume} {
		replace("hvs.nobody-knows-this-one")
		f.becomes(t, state{vault: "denied", ory: "ok"}, soon)
		replace(newToken(t, p, f, devstack.TokenOptions{TTL: time.Hour}))
		f.becomes(t, healthy(), soon) // the pause after a denial ends at once
		left, ends := f.expires(t)
		is.True(ends && left > 59*time.Minute && left <= time.Hour)
	}

	// Replaced before the old one ends, nobody sees anything.
	last := newToken(t, p, f, devstack.TokenOptions{TTL: 2 * time.Hour})
	volume(last)
	eventually(t, soon, func() bool {
		is.Equal(f.probe(t), healthy())
		left, _ := f.expires(t)
		return left > time.Hour
	})
	is.NoErr(p.vault.RevokeToken(t.Context(), last))
	f.becomes(t, state{vault: "denied", ory: "ok"}, lookupSoon)
	is.NoErr(os.Remove(file))
	f.becomes(t, state{vault: "misconfigured", ory: "ok"}, soon)
}

// TestTokenRenewal is of tokens whose whole life a test can watch.
func TestTokenRenewal(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, devstack.VaultOptions{})
	const ttl = 9 * time.Second
	watch := func(t *testing.T, f *function, d time.Duration) (last state) {
		t.Helper()
		for began := time.Now(); time.Since(began) < d; pause(t.Context(), 100*time.Millisecond) {
			last = f.probe(t)
		}
		return last
	}
	soonWarned := func(t *testing.T, f *function) int {
		return strings.Count(f.logged(t), `"the Vault token expires soon"`)
	}
	for name, options := range map[string]devstack.TokenOptions{
		"renewable": {TTL: ttl},
		"periodic":  {Period: ttl},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			f := start(t, p.environmentWith(newToken(t, p, nil, options))...)
			f.becomes(t, healthy(), soon)
			is.Equal(watch(t, f, 40*time.Second), healthy()) // four lives, and beyond the 30 s after which it is looked up again
			left, ends := f.expires(t)
			is.True(ends && left > 0 && left <= ttl)
			is.Equal(soonWarned(t, f), 0)
		})
	}
	t.Run("renewable, by nobody's use", func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		f := start(t, p.environmentWith(newToken(t, p, nil, devstack.TokenOptions{TTL: ttl}))...)
		f.becomes(t, healthy(), soon)
		pause(t.Context(), ttl+time.Second) // and no probe
		f.becomes(t, state{vault: "denied", ory: "ok"}, lookupSoon)
		is.Equal(soonWarned(t, f), 0)
	})
	t.Run("not renewable", func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		f := start(t, p.environmentWith(newToken(t, p, nil, devstack.TokenOptions{TTL: ttl, NotRenewable: true}))...)
		f.becomes(t, healthy(), soon)
		f.becomes(t, state{vault: "denied", ory: "ok"}, lookupSoon)
		is.Equal(soonWarned(t, f), 1)
		left, _ := f.expires(t)
		is.True(left < 0) // when it did is still to be seen
	})
	t.Run("renewable, to its max TTL", func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		f := start(t, p.environmentWith(newToken(t, p, nil, devstack.TokenOptions{TTL: ttl, MaxTTL: 2 * ttl}))...)
		f.becomes(t, healthy(), soon)
		is.Equal(watch(t, f, 2*ttl-2*time.Second), healthy()) // longer than it would without a renewal
		f.becomes(t, state{vault: "denied", ory: "ok"}, lookupSoon)
		is.Equal(soonWarned(t, f), 1)
		is.True(strings.Contains(f.logged(t), "max TTL"))
	})
	t.Run("root's", func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		f := start(t, p.environmentWith(p.vault.RootToken)...)
		f.becomes(t, healthy(), soon)
		_, ends := f.expires(t)
		is.True(!ends)
	})
	t.Run("a batch token", func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		f := start(t, p.environmentWith(newToken(t, p, nil, devstack.TokenOptions{TTL: time.Hour, Type: "batch", NotRenewable: true}))...)
		f.becomes(t, healthy(), soon)
		left, ends := f.expires(t)
		is.True(ends && left > 59*time.Minute)
	})
}

// TestTokenRenewalThroughAFault: Vault cannot audit, and so renew, when the time for it comes; the token lives on once it can.
func TestTokenRenewalThroughAFault(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	const ttl = 15 * time.Second
	f := start(t, p.environmentWith(newToken(t, p, nil, devstack.TokenOptions{TTL: ttl}))...)
	f.becomes(t, healthy(), soon)
	is.NoErr(p.vault.BlockAudit(t.Context()))
	eventually(t, ttl, func() bool {
		is.Equal(f.probe(t), healthy())
		return strings.Contains(f.logged(t), "a renewal failed: unavailable")
	})
	is.NoErr(p.vault.UnblockAudit())
	eventually(t, ttl, func() bool {
		is.Equal(f.probe(t), healthy())
		left, _ := f.expires(t)
		return left > ttl/2
	})
	is.Equal(strings.Count(f.logged(t), "the Vault token expires soon"), 1)
}
