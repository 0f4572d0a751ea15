package queueproxy

import (
	"sync"
	"testing"

	"coffeebuddy/test/devstack"
)

// platform is a Vault and a Hydra of a test's own, on addresses that pods reach.
type platform struct {
	vault *devstack.Vault
	hydra *devstack.Hydra
}

// startPlatform starts both at a time. They end with the test.
func startPlatform(t *testing.T) platform {
	t.Helper()
	var (
		p           platform
		vault, ory  error
		concurrency sync.WaitGroup
	)
	concurrency.Go(func() {
		p.vault, vault = devstack.StartVault(t.Context(), devstack.VaultOptions{Host: address(vaultAddress)})
	})
	concurrency.Go(func() {
		p.hydra, ory = devstack.StartHydra(t.Context(), devstack.HydraOptions{Host: address(hostAddress)})
	})
	concurrency.Wait()
	if vault != nil {
		t.Fatal(vault)
	}
	t.Cleanup(func() { closed(t, p.vault.Close) })
	if ory != nil {
		t.Fatal(ory)
	}
	t.Cleanup(func() { closed(t, p.hydra.Close) })
	return p
}

func closed(t *testing.T, closing func() error) {
	if err := closing(); err != nil {
		t.Error(err)
	}
}

// settings are those of the manifests that are the user's to change, for this platform.
func (p platform) settings() map[string]string {
	return map[string]string{
		"VAULT_ADDR": p.vault.URL, "VAULT_TOKEN": p.vault.Token.Reveal(), "ORY_BASE_URL": p.hydra.AdminURL,
	}
}
