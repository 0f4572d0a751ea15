package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// function check asks the real servers as a readiness probe does, and leaves nothing behind: the token of its login is revoked.
func TestCheckFromInsideThePod(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{TLS: true})
	issuer, err := p.vault.EnableJWT(t.Context(), "jwt")
	is.NoErr(err)
	is.NoErr(p.vault.WriteJWTRole(t.Context(), "jwt", "coffeebuddy", devstack.RoleOptions{}))
	jwt := filepath.Join(t.TempDir(), "token")
	is.NoErr(os.WriteFile(jwt, []byte(issuer.Token(time.Hour).Reveal()), 0o600))
	settings := []string{
		"VAULT_ADDR=" + p.vault.URL, "VAULT_CACERT=" + p.vault.CAFile, "ORY_BASE_URL=" + p.hydra.AdminURL,
		"VAULT_ROLE=coffeebuddy", "VAULT_AUTH_MOUNT=jwt", "VAULT_JWT_FILE=" + jwt,
	}
	check := func() (int, string) {
		command := exec.CommandContext(t.Context(), setting[string](functionFlag), "check")
		command.Env = settings
		var out bytes.Buffer
		command.Stdout, command.Stderr = &out, &out
		_ = command.Run() // the exit code is what counts

		is.True(!strings.Contains(out.String(), "hvs.") && !strings.Contains(out.String(), "eyJ")) // no token
		return command.ProcessState.ExitCode(), out.String()
	}
	before := accessors(t, p)
	code, out := check()
	t.Log(out)
	is.Equal(code, 0)
	for _, said := range []string{
		"vault: ok\n", "ory: ok\n", "GET /v1/sys/health", "/v1/auth/jwt/login", "GET /v1/auth/token/lookup-self", "TLS 1.3, certificate by", "\nready\n",
	} {
		is.True(strings.Contains(out, said))
	}
	is.Equal(accessors(t, p), before) // no token is left

	is.NoErr(p.vault.Seal(t.Context()))
	code, out = check()
	is.Equal(code, 1)
	is.True(strings.Contains(out, "vault: sealed (Vault is sealed)"))
	is.True(strings.Contains(out, "look at: Vault: unseal or initialize it"))
}
