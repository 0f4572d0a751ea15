package checks

import (
	"context"

	"coffeebuddy/vault"
)

// Vault checks that a Vault server can serve this function: it is initialized, unsealed and not
// inactive, and it knows the function's token.
type Vault struct{ client *vault.Client }

// NewVault returns a check that uses the client.
func NewVault(client *vault.Client) Vault { return Vault{client} }

// Name returns "vault".
func (Vault) Name() string { return "vault" }

// Check requests sys/health, unless there is no token to continue with, and then, if due,
// auth/token/lookup-self.
func (v Vault) Check(ctx context.Context) error {
	if err := v.client.Identify(ctx); err != nil {
		return err
	}
	if err := v.client.Health(ctx); err != nil {
		return err
	}
	return v.client.Verify(ctx)
}
