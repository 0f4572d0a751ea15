package devstack_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coffeebuddy/test/devstack"

	"github.com/matryer/is"
)

func TestLoginByJWT(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	vault := startVault(t, devstack.VaultOptions{})
	issuer, err := vault.EnableJWT(t.Context(), "jwt")
	is.NoErr(err)
	is.NoErr(vault.WriteJWTRole(t.Context(), "jwt", "coffeebuddy", devstack.RoleOptions{TTL: time.Minute}))

	token, err := vault.Login(t.Context(), "jwt", "coffeebuddy", issuer.Token(10*time.Minute))
	is.NoErr(err)
	var secret struct {
		Data struct {
			Data map[string]string `json:"data"`
		} `json:"data"`
	}
	is.NoErr(vault.Call(t.Context(), token, http.MethodGet, "secret/data/coffeebuddy/slack", nil, &secret))
	is.Equal(secret.Data.Data["signing_secret"], vault.SigningSecret.Reveal())

	for name, jwt := range map[string]devstack.Secret{
		"of another service account": issuer.Sign(map[string]any{"sub": "somebody", "aud": "vault", "exp": time.Now().Add(time.Hour).Unix()}),
		"for another audience":       issuer.Sign(map[string]any{"sub": devstack.ServiceAccount, "aud": "kubernetes", "exp": time.Now().Add(time.Hour).Unix()}),
		"expired":                    issuer.Token(-time.Minute),
	} {
		_, err := vault.Login(t.Context(), "jwt", "coffeebuddy", jwt)
		is.True(err != nil) // a token that the role does not admit
		is.True(!strings.Contains(err.Error(), jwt.Reveal()))
		t.Log(name, err)
	}
}

func TestLoginByKubernetes(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,
			"audiences":["vault"],"user":{"username":"system:serviceaccount:coffeebuddy:coffeebuddy","uid":"7"}}}`))
	}))
	defer api.Close()
	vault := startVault(t, devstack.VaultOptions{})
	is.NoErr(vault.EnableKubernetes(t.Context(), "kubernetes", devstack.KubernetesAPI{URL: api.URL}))
	is.NoErr(vault.WriteKubernetesRole(t.Context(), "kubernetes", "coffeebuddy", "coffeebuddy", "coffeebuddy", devstack.RoleOptions{Type: "batch", TTL: time.Minute}))
	issuer, err := devstack.NewIssuer()
	is.NoErr(err)
	token, err := vault.Login(t.Context(), "kubernetes", "coffeebuddy", issuer.Sign(map[string]any{
		"sub": devstack.ServiceAccount, "aud": []string{devstack.LoginAudience}, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "nbf": time.Now().Unix(),
		"kubernetes.io": map[string]any{"namespace": "coffeebuddy", "serviceaccount": map[string]string{"name": "coffeebuddy", "uid": "7"}},
	}))
	is.NoErr(err)
	is.True(strings.HasPrefix(token.Reveal(), "hvb."))
}
