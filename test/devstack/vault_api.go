package devstack

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Call sends a request to Vault's API: path is what comes after /v1/. in is sent as JSON, a 2xx answer is decoded into out; either may be
// nil. Any other status is a *StatusError.
func (v *Vault) Call(ctx context.Context, token Secret, method, path string, in, out any) error {
	header := http.Header{}
	if token != "" {
		header.Set("X-Vault-Token", token.Reveal())
	}
	return call(ctx, v.http, method, v.URL+"/v1/"+path, header, in, out)
}

// Health returns the status of sys/health: 200 active, 501 not initialized, 503 sealed.
func (v *Vault) Health(ctx context.Context) (status int, err error) {
	return statusOf(v.Call(ctx, "", http.MethodGet, "sys/health", nil, nil))
}

// LookupSelf returns the status that Vault answers a look at the token itself with. It uses up one use of a token with num_uses.
func (v *Vault) LookupSelf(ctx context.Context, token Secret) (status int, err error) {
	return statusOf(v.Call(ctx, token, http.MethodGet, "auth/token/lookup-self", nil, nil))
}

func statusOf(err error) (int, error) {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status, nil
	}
	if err != nil {
		return 0, err
	}
	return http.StatusOK, nil
}

// Initialize sets up an uninitialized Vault with one key share, unseals it, and fills it: see Policy, SecretsPolicy, Token and
// SigningSecret.
func (v *Vault) Initialize(ctx context.Context) error {
	var answer struct {
		Keys      []Secret `json:"keys_base64"`
		RootToken Secret   `json:"root_token"`
	}
	shares := map[string]int{"secret_shares": 1, "secret_threshold": 1}
	if err := v.Call(ctx, "", http.MethodPut, "sys/init", shares, &answer); err != nil {
		return fmt.Errorf("initialize vault: %w", err)
	}
	if len(answer.Keys) != 1 {
		return fmt.Errorf("initialize vault: it gave %d unseal keys, not one", len(answer.Keys))
	}
	v.UnsealKey, v.RootToken = answer.Keys[0], answer.RootToken
	if err := v.Unseal(ctx); err != nil {
		return err
	}
	return v.seed(ctx)
}

// Seal seals the Vault: it answers, and serves nothing.
func (v *Vault) Seal(ctx context.Context) error {
	if err := v.Call(ctx, v.RootToken, http.MethodPut, "sys/seal", nil, nil); err != nil {
		return fmt.Errorf("seal vault: %w", err)
	}
	return nil
}

// Unseal unseals the Vault and returns when it serves.
func (v *Vault) Unseal(ctx context.Context) error {
	if err := v.Call(ctx, "", http.MethodPut, "sys/unseal", map[string]string{"key": v.UnsealKey.Reveal()}, nil); err != nil {
		return fmt.Errorf("unseal vault: %w", err)
	}
	err := poll(ctx, func(ctx context.Context) error {
		return v.Call(ctx, "", http.MethodGet, "sys/health", nil, nil)
	})
	if err != nil {
		return fmt.Errorf("wait until vault is unsealed: %w", err)
	}
	return nil
}

// WriteSecret writes a secret to the KV store (version 2) at secret/: path is what comes after that.
func (v *Vault) WriteSecret(ctx context.Context, path string, secret map[string]Secret) error {
	data := make(map[string]string, len(secret))
	for key, value := range secret {
		data[key] = value.Reveal()
	}
	err := v.Call(ctx, v.RootToken, http.MethodPost, "secret/data/"+path, map[string]any{"data": data}, nil)
	if err != nil {
		return fmt.Errorf("write secret %s: %w", path, err)
	}
	return nil
}

// The policies of a seeded Vault.
const (
	// Policy may read the secrets under secret/coffeebuddy/, make users of the database, and look at its own token.
	Policy = "coffeebuddy"
	// SecretsPolicy may read those secrets alone: a token with it and without Vault's default policy cannot look at itself.
	SecretsPolicy = "coffeebuddy-secrets"

	readSecrets = `path "secret/data/coffeebuddy/*" { capabilities = ["read"] }` + "\n"
	readUsers   = `path "database/creds/*" { capabilities = ["read"] }` + "\n"
	lookupSelf  = `path "auth/token/lookup-self" { capabilities = ["read"] }` + "\n"
)

// seed fills a new Vault.
func (v *Vault) seed(ctx context.Context) error {
	mount := map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "sys/mounts/secret", mount, nil); err != nil {
		return fmt.Errorf("mount the KV store: %w", err)
	}
	for name, rules := range map[string]string{Policy: readSecrets + readUsers + lookupSelf, SecretsPolicy: readSecrets} {
		policy := map[string]string{"policy": rules}
		if err := v.Call(ctx, v.RootToken, http.MethodPut, "sys/policies/acl/"+name, policy, nil); err != nil {
			return fmt.Errorf("write policy %s: %w", name, err)
		}
	}
	v.SigningSecret = randomSecret()
	err := poll(ctx, func(ctx context.Context) error { // a KV store refuses writes for its first moments
		return v.WriteSecret(ctx, "coffeebuddy/slack", map[string]Secret{"signing_secret": v.SigningSecret})
	})
	if err != nil {
		return err
	}
	v.Token, err = v.CreateToken(ctx, TokenOptions{})
	return err
}

// randomSecret returns 32 hexadecimal digits, the form of Slack's signing secrets.
func randomSecret() Secret {
	random := make([]byte, 16)
	rand.Read(random) // never fails
	return Secret(hex.EncodeToString(random))
}

// TokenOptions say what kind of token to create. The zero value is what the function gets: renewable, 32 days, with Policy
// and Vault's default policy.
type TokenOptions struct {
	Policies        []string      // nil: Policy
	NoDefaultPolicy bool          // without Vault's default policy, which lets a token look at itself
	TTL             time.Duration // 0: 32 days, Vault's most
	Period          time.Duration // if set, each renewal gives it this long again, without an end
	MaxTTL          time.Duration // if set, no renewal makes it live longer than this from now on
	Type            string        // "batch", or "service" for empty
	NotRenewable    bool
	NumUses         int           // how many requests it is good for; 0: any number
	WrapTTL         time.Duration // if set, the token returned is a wrapping token around the real one, good for this long
}

// CreateToken creates a token. Durations are cut to seconds.
func (v *Vault) CreateToken(ctx context.Context, options TokenOptions) (Secret, error) {
	in := map[string]any{
		"policies":          options.Policies,
		"no_default_policy": options.NoDefaultPolicy,
		"renewable":         !options.NotRenewable,
		"num_uses":          options.NumUses,
	}
	if options.Policies == nil {
		in["policies"] = []string{Policy}
	}
	if options.TTL != 0 {
		in["ttl"] = seconds(options.TTL)
	}
	if options.MaxTTL != 0 {
		in["explicit_max_ttl"] = seconds(options.MaxTTL)
	}
	if options.Type != "" {
		in["type"] = options.Type
	}
	if options.Period != 0 {
		in["period"] = seconds(options.Period)
	}
	header := http.Header{"X-Vault-Token": {v.RootToken.Reveal()}}
	if options.WrapTTL != 0 {
		header.Set("X-Vault-Wrap-TTL", seconds(options.WrapTTL))
	}
	var answer struct {
		Auth struct {
			ClientToken Secret `json:"client_token"`
		} `json:"auth"`
		WrapInfo struct {
			Token Secret `json:"token"`
		} `json:"wrap_info"`
	}
	if err := call(ctx, v.http, http.MethodPost, v.URL+"/v1/auth/token/create", header, in, &answer); err != nil {
		return "", fmt.Errorf("create token: %w", err)
	}
	if options.WrapTTL != 0 {
		return answer.WrapInfo.Token, nil
	}
	return answer.Auth.ClientToken, nil
}

// RevokeToken makes a token useless at once.
func (v *Vault) RevokeToken(ctx context.Context, token Secret) error {
	in := map[string]string{"token": token.Reveal()}
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "auth/token/revoke", in, nil); err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// ShortenToken makes a renewable token without a period expire after ttl, which is cut to seconds, from now on.
func (v *Vault) ShortenToken(ctx context.Context, token Secret, ttl time.Duration) error {
	in := map[string]string{"token": token.Reveal(), "increment": seconds(ttl)}
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "auth/token/renew", in, nil); err != nil {
		return fmt.Errorf("shorten token: %w", err)
	}
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }

// BlockAudit makes every request fail that Vault would have to audit: all but a few like sys/health. It needs an unsealed
// Vault the first time.
func (v *Vault) BlockAudit(ctx context.Context) error {
	if err := v.enableAudit(ctx); err != nil {
		return fmt.Errorf("enable an audit device: %w", err)
	}
	v.audit.close()
	return nil
}

// enableAudit adds the one audit device, unless it is there. A Vault keeps it over restarts.
func (v *Vault) enableAudit(ctx context.Context) error {
	if v.audit.enabled {
		return nil
	}
	if err := v.audit.open(); err != nil {
		return err
	}
	device := map[string]any{
		"type":    "socket",
		"options": map[string]string{"address": v.audit.path, "socket_type": "unix"},
	}
	if err := v.Call(ctx, v.RootToken, http.MethodPut, "sys/audit/devstack", device, nil); err != nil {
		return err
	}
	v.audit.enabled = true
	return nil
}

// UnblockAudit lets Vault audit again.
func (v *Vault) UnblockAudit() error {
	if err := v.audit.open(); err != nil {
		return fmt.Errorf("unblock audit: %w", err)
	}
	return nil
}
