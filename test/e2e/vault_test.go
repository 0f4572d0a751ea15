package e2e

import (
	"net/http"
	"testing"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// TestVault takes a real Vault through its states under a running function.
func TestVault(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]func(*devstack.Vault) []step{
		"sealed": func(v *devstack.Vault) []step { return []step{{v.Seal, "sealed"}, {v.Unseal, "ok"}} },
		"hung":   func(v *devstack.Vault) []step { return []step{{v.Freeze, "timeout"}, {done(v.Thaw), "ok"}} },
		"stopped": func(v *devstack.Vault) []step {
			return []step{{v.Stop, "refused"}, {v.Start, "sealed"}, {v.Unseal, "ok"}}
		},
		"killed while it hangs": func(v *devstack.Vault) []step {
			return []step{{v.Freeze, "timeout"}, {killed(v.Process), "refused"}, {v.Start, "sealed"}, {v.Unseal, "ok"}}
		},
		"hung while it is sealed": func(v *devstack.Vault) []step {
			return []step{{v.Seal, "sealed"}, {v.Freeze, "timeout"}, {done(v.Thaw), "sealed"}, {v.Unseal, "ok"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			p := startPlatform(t, devstack.VaultOptions{})
			f := start(t, p.environment()...)
			f.becomes(t, healthy(), soon)
			for range 2 { // once more: healing leaves nothing behind
				for _, step := range steps(p.vault) {
					is.NoErr(step.do(t.Context()))
					f.becomes(t, state{vault: step.want, ory: "ok"}, soon)
				}
			}
		})
	}
}

func TestVaultUninitialized(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{Uninitialized: true})
	const token = devstack.Secret("known-before-its-Vault-was-set-up")
	f := start(t, p.environmentWith(token)...)
	f.becomes(t, state{vault: "uninitialized", ory: "ok"}, soon)
	is.NoErr(p.vault.Initialize(t.Context()))
	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPost, "auth/token/create", map[string]any{
		"id": token.Reveal(), "policies": []string{devstack.Policy},
	}, nil))
	f.becomes(t, healthy(), soon)
}

// TestVaultThatCannotAudit answers sys/health as ever, since that is not audited, and nothing else.
func TestVaultThatCannotAudit(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	believer := start(t, p.environment()...)
	believer.becomes(t, healthy(), soon)

	cannot := state{vault: "unavailable", ory: "ok"}
	is.NoErr(p.vault.BlockAudit(t.Context()))
	newcomer := start(t, p.environment()...)
	newcomer.becomes(t, cannot, soon) // at its first lookup
	is.NoErr(p.vault.UnblockAudit())
	newcomer.becomes(t, healthy(), soon)

	is.NoErr(p.vault.BlockAudit(t.Context()))
	believer.becomes(t, cannot, lookupSoon)
	is.NoErr(p.vault.UnblockAudit())
	believer.becomes(t, healthy(), soon) // with no 30 s to wait for: a lookup that failed otherwise than by denial is due at each check
}
