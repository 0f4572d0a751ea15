package e2e

import (
	"context"
	"sync"
	"testing"

	"coffeebuddy/test/devstack"
)

// platform is a Vault and a Hydra of a test's own.
type platform struct {
	vault *devstack.Vault
	hydra *devstack.Hydra
}

// startPlatform starts both at a time. They end with the test.
func startPlatform(t *testing.T, options devstack.VaultOptions) platform {
	t.Helper()
	var (
		p           platform
		vault, ory  error
		concurrency sync.WaitGroup
	)
	concurrency.Go(func() { p.vault, vault = devstack.StartVault(t.Context(), options) })
	concurrency.Go(func() { p.hydra, ory = devstack.StartHydra(t.Context(), devstack.HydraOptions{}) })
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

// environment is what the function needs to get ready.
func (p platform) environment() []string { return p.environmentWith(p.vault.Token) }

// environmentWith is environment with another token.
func (p platform) environmentWith(token devstack.Secret) []string {
	return []string{"VAULT_ADDR=" + p.vault.URL, "VAULT_TOKEN=" + token.Reveal(), "ORY_BASE_URL=" + p.hydra.AdminURL}
}

// A step is something done to a server, and what readiness says of it from then on.
type step struct {
	do   func(context.Context) error
	want string
}

// done makes a step of what needs no context.
func done(do func() error) func(context.Context) error {
	return func(context.Context) error { return do() }
}

// killed makes a step of a kill, which cannot fail.
func killed(process *devstack.Process) func(context.Context) error {
	return func(context.Context) error { process.Kill(); return nil }
}
