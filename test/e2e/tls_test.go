package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

func TestVaultOverTLS(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, devstack.VaultOptions{TLS: true})

	t.Run("with its authority", func(t *testing.T) {
		is := is.New(t)
		f := start(t, append(p.environment(), "VAULT_CACERT="+p.vault.CAFile)...)
		f.becomes(t, healthy(), soon)
		for _, step := range []step{{p.vault.Stop, "refused"}, {p.vault.Start, "sealed"}, {p.vault.Unseal, "ok"}} {
			is.NoErr(step.do(t.Context()))
			f.becomes(t, state{vault: step.want, ory: "ok"}, soon)
		}
	})
	t.Run("with the system's authorities", func(t *testing.T) {
		f := start(t, p.environment()...)
		f.becomes(t, state{vault: "tls", ory: "ok"}, soon)
	})
	t.Run("with another authority of the same name, then with its own", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.pem")
		replace(t, file, p.vault.WrongCAFile)
		f := start(t, append(p.environment(), "VAULT_CACERT="+file)...)
		f.becomes(t, state{vault: "tls", ory: "ok"}, soon)
		replace(t, file, p.vault.CAFile)
		f.becomes(t, healthy(), soon)
	})
}

// replace puts another file's content in the place of file in one step, as Kubernetes does with a mounted Secret.
func replace(t *testing.T, file, by string) {
	t.Helper()
	content, err := os.ReadFile(by)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}
