package vault_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"coffeebuddy/internal/fault"
	"coffeebuddy/vault"

	"github.com/matryer/is"
)

func TestTokenFile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ when, content, want string }{
		{"a token", "s.canary", "s.canary"},
		{"white space around it", "\n \ts.canary\r\n\n", "s.canary"},
		{"nothing", "", ""},
		{"white space alone", " \n\t", ""},
		{"two tokens", "s.canary s.canary", ""},
		{"two lines", "s.canary\ns.canary", ""},
		{"a byte order mark", "\ufeffs.canary", ""},
		{"a control character", "s.canary\x00x", ""},
		{"the longest", strings.Repeat("x", 16<<10), strings.Repeat("x", 16<<10)},
		{"one that is longer", strings.Repeat("x", 16<<10+1), ""},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			file := filepath.Join(t.TempDir(), "token")
			is.NoErr(os.WriteFile(file, []byte(test.content), 0o600))
			token, err := vault.TokenFile(file)(t.Context())
			is.Equal(token, test.want)
			if test.want == "" {
				is.Equal(fault.ReasonOf(err), fault.Misconfigured)
				is.True(strings.Contains(err.Error(), "VAULT_TOKEN_FILE: "))
				is.True(!strings.Contains(err.Error(), "canary") && !strings.Contains(err.Error(), file))
			}
		})
	}
}

// TestTokenFileThatIsNone checks that a token file which is not a regular file is rejected, and
// that the read of a pipe does not block.
func TestTokenFileThatIsNone(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	dir := t.TempDir()
	pipe, loop := filepath.Join(dir, "pipe"), filepath.Join(dir, "loop")
	is.NoErr(syscall.Mkfifo(pipe, 0o600))
	is.NoErr(os.Symlink(loop, loop))
	for _, file := range []string{"", dir, pipe, loop, "/dev/zero", filepath.Join(dir, "missing"), pipe + "/x", dir + "\x00"} {
		_, err := vault.TokenFile(file)(t.Context())
		is.Equal(fault.ReasonOf(err), fault.Misconfigured) // file
		is.True(!strings.Contains(err.Error(), dir))
	}
}

// TestTokenFileIsSeenWhenItChanges replaces a token file in each way that is used in practice.
func TestTokenFileIsSeenWhenItChanges(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	source := vault.TokenFile(in("token"))
	shows := func(want string) {
		t.Helper()
		token, err := source(t.Context())
		is.NoErr(err)
		is.Equal(token, want)
	}

	// A Kubernetes volume: token -> ..data/token, and ..data -> a folder, swapped atomically.
	for _, version := range []string{"v1", "v2"} {
		is.NoErr(os.Mkdir(in(version), 0o700))
		is.NoErr(os.WriteFile(in(version+"/token"), []byte("s."+version+"\n"), 0o600))
	}
	is.NoErr(os.Symlink("v1", in("..data")))
	is.NoErr(os.Symlink("..data/token", in("token")))
	shows("s.v1")
	is.NoErr(os.Symlink("v2", in("..data_tmp")))
	is.NoErr(os.Rename(in("..data_tmp"), in("..data")))
	shows("s.v2")

	// Vault Agent renames another file over it.
	is.NoErr(os.WriteFile(in("token.tmp"), []byte("s.v3"), 0o600))
	is.NoErr(os.Rename(in("token.tmp"), in("token")))
	shows("s.v3")

	// A shell overwrites it in place, with the same size and time.
	info, err := os.Stat(in("token"))
	is.NoErr(err)
	is.NoErr(os.WriteFile(in("token"), []byte("s.v4"), 0o600))
	is.NoErr(os.Chtimes(in("token"), info.ModTime(), info.ModTime()))
	shows("s.v4")
}

func TestVaultTokenFromAFileThatComesAndGoes(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := newVaultServer(t)
	file := filepath.Join(t.TempDir(), "token")
	client := newClient(t, vault.Config{Address: server.URL, Token: vault.TokenFile(file)})

	is.Equal(check(t, client), fault.Misconfigured)
	is.Equal(len(server.requests), 0) // without a token there is no reason to connect
	_, err := client.API(t.Context())
	is.Equal(fault.ReasonOf(err), fault.Misconfigured)

	is.NoErr(os.WriteFile(file, []byte("s.canary-1"), 0o600))
	is.Equal(check(t, client), fault.Reason(""))
	server.set(canned{200, active}, canned{403, wrongToken})
	is.NoErr(os.WriteFile(file, []byte("s.canary-2"), 0o600))
	is.Equal(check(t, client), fault.Denied)
	is.Equal(check(t, client), fault.Denied)
	is.Equal(server.lookups.Load(), int64(2)) // no lookup during the pause

	server.set(canned{200, active}, canned{200, lookedUp})
	is.NoErr(os.WriteFile(file, []byte("s.canary-3"), 0o600))
	used, err := client.API(t.Context()) // a feature need not wait for the next check
	is.NoErr(err)
	is.Equal(used.Token(), "s.canary-3")
	is.Equal(check(t, client), fault.Reason("")) // the pause ends immediately
	is.Equal(server.requests[len(server.requests)-1].Header.Get("X-Vault-Token"), "s.canary-3")

	is.NoErr(os.Remove(file))
	is.Equal(check(t, client), fault.Misconfigured)
}

// TestNoToken checks common mistakes in the token's setting.
func TestNoToken(t *testing.T) {
	t.Parallel()
	jwt := "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
	for _, test := range []struct{ text, why string }{
		{`"hvs.canary"`, "without quotes"},
		{`'hvs.canary'`, "without quotes"},
		{"\u201chvs.canary\u201d", "without quotes"},
		{jwt, "not a JWT"},
		{"Bearer hvs.canary", "without the header"},
		{"bearer hvs.canary", "without the header"},
		{"X-Vault-Token: hvs.canary", "without the header"},
		{"VAULT_TOKEN=hvs.canary", "without a name"},
		{"token: hvs.canary", "without a name"},
		{`{"auth":{"client_token":"hvs.canary"}}`, "not JSON"},
		{"${VAULT_TOKEN}", "placeholder"},
		{"$(cat canary)", "placeholder"},
		{"$VAULT_TOKEN", "placeholder"},
		{"<your-token>", "placeholder"},
		{"/var/run/secrets/vault/canary", "VAULT_TOKEN_FILE"},
		{"file:/canary", "VAULT_TOKEN_FILE"},
		{"https://vault.canary:8200", "VAULT_TOKEN_FILE"},
		{"secret/data/canary", "path in Vault"},
		{"auth/kubernetes/role/canary", "path in Vault"},
		{"aHZzLkNBRVNJY2FuYXJ5", "encoded twice"},
		{"hvs.", "prefix alone"},
		{"hvs.CAESIcanary...", "not what a tool shows"},
		{"hvs.canary hvs.canary", "white space"},
		{"-----BEGIN CANARY", "not a key"},
		{"ory_at_canary.canary", "begin as Vault's tokens do"},
		{"canary.example.com", "begin as Vault's tokens do"},
		{"", "is empty"},

		{"hvs.CAESIJ-_canary", ""},
		{"hvb.AAAAAQcanary", ""},
		{"s.canary", ""},
		{"root", ""},
		{"s.canary.nsid", ""}, // in a namespace
		{"00000000-0000-0000-0000-000000000000", ""},
		{"eyJust-my-own-id", ""}, // an id chosen by an administrator
	} {
		is := is.New(t)
		why := vault.NoToken(test.text)
		is.True(strings.Contains(why, test.why)) // test.text
		is.Equal(why == "", test.why == "")      // test.text
		is.True(!strings.Contains(why, "canary"))
	}
}
