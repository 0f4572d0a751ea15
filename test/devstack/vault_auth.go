package devstack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"time"
)

// LoginAudience is the audience that a service account token must have to log in to Vault with a role written here.
const LoginAudience = "vault"

// ServiceAccount is the subject that the roles written here admit: the function's service account of the manifests.
const ServiceAccount = "system:serviceaccount:coffeebuddy:coffeebuddy"

// RoleOptions say what a login with a role gets. The zero value is a renewable service token with Policy and Vault's default policy,
// for 32 days.
type RoleOptions struct {
	Policies        []string      // nil: Policy
	NoDefaultPolicy bool          // without Vault's default policy, which lets a token look at itself
	TTL             time.Duration // 0: 32 days, Vault's most
	MaxTTL          time.Duration // if set, no renewal makes a token live longer than this
	Period          time.Duration // if set, each renewal gives a token this long again, without an end
	Type            string        // "batch", or "service" for empty
	NumUses         int           // how many requests a token is good for; 0: any number
	BoundCIDRs      []string      // where logins and their tokens may come from; nil: anywhere
}

// body returns the role's part that all auth methods share.
func (o RoleOptions) body() map[string]any {
	body := map[string]any{
		"token_policies":          o.Policies,
		"token_no_default_policy": o.NoDefaultPolicy,
		"token_ttl":               seconds(o.TTL),
		"token_max_ttl":           seconds(o.MaxTTL),
		"token_period":            seconds(o.Period),
		"token_type":              o.Type,
		"token_num_uses":          o.NumUses,
		"token_bound_cidrs":       o.BoundCIDRs,
	}
	if o.Policies == nil {
		body["token_policies"] = []string{Policy}
	}
	return body
}

// EnableAuth enables an auth method of a type, "jwt" or "kubernetes", at auth/mount.
func (v *Vault) EnableAuth(ctx context.Context, kind, mount string) error {
	in := map[string]string{"type": kind}
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "sys/auth/"+mount, in, nil); err != nil {
		return fmt.Errorf("enable auth method %s at %s: %w", kind, mount, err)
	}
	return nil
}

// EnableJWT enables the auth method jwt at auth/mount, and has it trust a new Issuer.
func (v *Vault) EnableJWT(ctx context.Context, mount string) (*Issuer, error) {
	if err := v.EnableAuth(ctx, "jwt", mount); err != nil {
		return nil, err
	}
	issuer, err := NewIssuer()
	if err != nil {
		return nil, err
	}
	return issuer, v.TrustIssuer(ctx, mount, issuer)
}

// TrustIssuer has the auth method jwt at auth/mount trust an issuer, in place of the one it trusted before.
func (v *Vault) TrustIssuer(ctx context.Context, mount string, issuer *Issuer) error {
	public, err := issuer.publicKey()
	if err != nil {
		return err
	}
	in := map[string]any{"jwt_validation_pubkeys": []string{public}, "jwt_supported_algs": []string{"ES256"}}
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "auth/"+mount+"/config", in, nil); err != nil {
		return fmt.Errorf("configure auth method jwt at %s: %w", mount, err)
	}
	return nil
}

// WriteJWTRole writes a role of the auth method jwt at auth/mount: for tokens whose subject is ServiceAccount and whose audience is
// LoginAudience. Clocks that differ by more than 10 s are noticed.
func (v *Vault) WriteJWTRole(ctx context.Context, mount, name string, options RoleOptions) error {
	in := options.body()
	in["role_type"] = "jwt"
	in["user_claim"] = "sub"
	in["bound_subject"] = ServiceAccount
	in["bound_audiences"] = []string{LoginAudience}
	in["clock_skew_leeway"], in["expiration_leeway"], in["not_before_leeway"] = 10, 10, 10
	return v.writeRole(ctx, mount, name, in)
}

// KubernetesAPI is where the auth method kubernetes asks for a TokenReview.
type KubernetesAPI struct {
	URL           string // https, or http for a stand-in
	CA            string // PEM; empty: the system's authorities
	ReviewerToken Secret // of a service account that may create TokenReviews; empty: each login's own token
}

// EnableKubernetes enables the auth method kubernetes at auth/mount.
func (v *Vault) EnableKubernetes(ctx context.Context, mount string, api KubernetesAPI) error {
	if err := v.EnableAuth(ctx, "kubernetes", mount); err != nil {
		return err
	}
	in := map[string]any{
		"kubernetes_host":      api.URL,
		"kubernetes_ca_cert":   api.CA,
		"token_reviewer_jwt":   api.ReviewerToken.Reveal(),
		"disable_local_ca_jwt": true, // this Vault is in no pod
	}
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "auth/"+mount+"/config", in, nil); err != nil {
		return fmt.Errorf("configure auth method kubernetes at %s: %w", mount, err)
	}
	return nil
}

// WriteKubernetesRole writes a role of the auth method kubernetes at auth/mount, for one service account and LoginAudience.
func (v *Vault) WriteKubernetesRole(ctx context.Context, mount, name, namespace, serviceAccount string, options RoleOptions) error {
	in := options.body()
	in["bound_service_account_names"] = []string{serviceAccount}
	in["bound_service_account_namespaces"] = []string{namespace}
	in["audience"] = LoginAudience
	return v.writeRole(ctx, mount, name, in)
}

func (v *Vault) writeRole(ctx context.Context, mount, name string, in map[string]any) error {
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "auth/"+mount+"/role/"+name, in, nil); err != nil {
		return fmt.Errorf("write role %s of auth/%s: %w", name, mount, err)
	}
	return nil
}

// Login logs in with a service account token, and returns Vault's.
func (v *Vault) Login(ctx context.Context, mount, role string, jwt Secret) (Secret, error) {
	in := map[string]string{"role": role, "jwt": jwt.Reveal()}
	var answer struct {
		Auth struct {
			ClientToken Secret `json:"client_token"`
		} `json:"auth"`
	}
	if err := v.Call(ctx, "", http.MethodPost, "auth/"+mount+"/login", in, &answer); err != nil {
		return "", fmt.Errorf("log in with role %s at auth/%s: %w", role, mount, err)
	}
	return answer.Auth.ClientToken, nil
}

// Issuer signs service account tokens, as a cluster's API server does for projected volumes.
type Issuer struct{ key *ecdsa.PrivateKey }

// NewIssuer returns an issuer with a new key.
func NewIssuer() (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return &Issuer{key: key}, nil
}

// Token returns a token of ServiceAccount for LoginAudience that was issued now.
func (i *Issuer) Token(life time.Duration) Secret {
	now := time.Now()
	return i.Sign(map[string]any{
		"sub": ServiceAccount, "aud": []string{LoginAudience},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix(),
	})
}

// Sign returns a token with these claims. It panics if they cannot be encoded as JSON.
func (i *Issuer) Sign(claims map[string]any) Secret {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(fmt.Sprintf("encode claims: %v", err))
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + encode(payload)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, digest[:])
	if err != nil {
		panic(fmt.Sprintf("sign claims: %v", err)) // never: the key is a good one
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return Secret(signed + "." + encode(signature))
}

// publicKey returns the issuer's public key as PEM.
func (i *Issuer) publicKey() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		return "", fmt.Errorf("encode the issuer's key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}
