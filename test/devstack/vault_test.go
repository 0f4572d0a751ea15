package devstack_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

func TestVaultIsReadyForUse(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	vault := startVault(t, devstack.VaultOptions{})

	is.Equal(health(t, vault), http.StatusOK)
	is.Equal(lookup(t, vault, vault.Token), http.StatusOK)
	var secret struct {
		Data struct {
			Data map[string]devstack.Secret `json:"data"`
		} `json:"data"`
	}
	is.NoErr(vault.Call(t.Context(), vault.Token, http.MethodGet, "secret/data/coffeebuddy/slack", nil, &secret))
	is.Equal(secret.Data.Data["signing_secret"].Reveal(), vault.SigningSecret.Reveal()) // the function's token reads Slack's secret
	err := vault.Call(t.Context(), vault.Token, http.MethodGet, "secret/data/other", nil, nil)
	is.Equal(status(err), http.StatusForbidden) // and no other
	is.NoErr(vault.Call(t.Context(), vault.Token, http.MethodPost, "auth/token/renew-self", nil, nil))
}

func TestVaultSealsAndUnseals(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	vault := startVault(t, devstack.VaultOptions{})

	is.NoErr(vault.Seal(t.Context()))
	is.Equal(health(t, vault), http.StatusServiceUnavailable)
	is.NoErr(vault.Unseal(t.Context()))
	is.Equal(health(t, vault), http.StatusOK)
	is.Equal(lookup(t, vault, vault.Token), http.StatusOK)
}

func TestVaultStartsUninitialized(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	vault := startVault(t, devstack.VaultOptions{Uninitialized: true})

	is.Equal(health(t, vault), http.StatusNotImplemented)
	is.NoErr(vault.Initialize(t.Context()))
	is.Equal(health(t, vault), http.StatusOK)
	is.Equal(lookup(t, vault, vault.Token), http.StatusOK)
}

func TestVaultKeepsItsDataAndPortOverARestart(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	vault := startVault(t, devstack.VaultOptions{})

	is.NoErr(vault.Stop(t.Context()))
	is.True(!vault.Running())
	_, err := vault.Health(t.Context())
	is.True(errors.Is(err, syscall.ECONNREFUSED)) // stopped

	is.NoErr(vault.Start(t.Context()))
	is.Equal(health(t, vault), http.StatusServiceUnavailable) // sealed, as any Vault after a start
	is.NoErr(vault.Unseal(t.Context()))
	is.Equal(lookup(t, vault, vault.Token), http.StatusOK) // with its data

	vault.Kill()
	is.NoErr(vault.Restart(t.Context())) // of what does not run is a start
	is.NoErr(vault.Unseal(t.Context()))
	is.Equal(lookup(t, vault, vault.Token), http.StatusOK)
}

func TestVaultFreezesAndThaws(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	vault := startVault(t, devstack.VaultOptions{})

	is.NoErr(vault.Freeze(t.Context()))
	soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := vault.Health(soon)
	is.True(errors.Is(err, context.DeadlineExceeded)) // hung: it takes connections and says nothing
	is.NoErr(vault.Thaw())
	is.Equal(health(t, vault), http.StatusOK)

	is.NoErr(vault.Freeze(t.Context()))
	is.NoErr(vault.Stop(t.Context())) // a frozen one can be stopped
}

func TestVaultRefusesWhatItCannotAudit(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	vault := startVault(t, devstack.VaultOptions{})

	for range 2 {
		is.NoErr(vault.BlockAudit(t.Context()))
		is.Equal(health(t, vault), http.StatusOK) // which is not audited
		is.Equal(lookup(t, vault, vault.Token), http.StatusInternalServerError)
		is.NoErr(vault.UnblockAudit())
		is.Equal(lookup(t, vault, vault.Token), http.StatusOK)
	}
	is.NoErr(vault.BlockAudit(t.Context()))
	is.NoErr(vault.Restart(t.Context()))
	is.NoErr(vault.Unseal(t.Context()))
	is.Equal(lookup(t, vault, vault.Token), http.StatusInternalServerError) // it remembers its audit device
	is.NoErr(vault.UnblockAudit())
	is.Equal(lookup(t, vault, vault.Token), http.StatusOK)
}

func TestVaultTokens(t *testing.T) {
	t.Parallel()
	vault := startVault(t, devstack.VaultOptions{})
	for name, test := range map[string]struct {
		options devstack.TokenOptions
		change  func(context.Context, devstack.Secret) error
		want    []int // the statuses of one look at itself after the other
	}{
		"a usual one":                              {want: []int{200, 200}},
		"a periodic one":                           {options: devstack.TokenOptions{Period: time.Hour}, want: []int{200}},
		"a revoked one":                            {change: vault.RevokeToken, want: []int{403}},
		"one with two uses":                        {options: devstack.TokenOptions{NumUses: 2}, want: []int{200, 200, 403}},
		"a wrapping one":                           {options: devstack.TokenOptions{WrapTTL: time.Minute}, want: []int{403}},
		"one that may read secrets alone":          {options: devstack.TokenOptions{Policies: []string{devstack.SecretsPolicy}, NoDefaultPolicy: true}, want: []int{403}},
		"one without the default policy":           {options: devstack.TokenOptions{NoDefaultPolicy: true}, want: []int{200}},
		"one of the default policy's alone":        {options: devstack.TokenOptions{Policies: []string{}}, want: []int{200}},
		"one that is not renewable, with a minute": {options: devstack.TokenOptions{NotRenewable: true, TTL: time.Minute}, want: []int{200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			token, err := vault.CreateToken(t.Context(), test.options)
			is.NoErr(err)
			if test.change != nil {
				is.NoErr(test.change(t.Context(), token))
			}
			for _, want := range test.want {
				is.Equal(lookup(t, vault, token), want)
			}
		})
	}
	t.Run("one that was shortened", func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		token, err := vault.CreateToken(t.Context(), devstack.TokenOptions{})
		is.NoErr(err)
		is.NoErr(vault.ShortenToken(t.Context(), token, time.Second))
		is.Equal(lookup(t, vault, token), http.StatusOK) // still good
		eventually(t, func() bool { return lookup(t, vault, token) == http.StatusForbidden })
	})
}

func TestVaultOverTLS(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	vault := startVault(t, devstack.VaultOptions{TLS: true})

	is.Equal(health(t, vault), http.StatusOK)
	answer, err := clientTrusting(t, vault.CAFile).Get(vault.URL + "/v1/sys/health")
	is.NoErr(err)
	answer.Body.Close()
	_, err = clientTrusting(t, vault.WrongCAFile).Get(vault.URL + "/v1/sys/health")
	is.True(errors.As(err, new(x509.UnknownAuthorityError))) // of the same name, and not the one that signed
}

func clientTrusting(t *testing.T, file string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
}

func startVault(t *testing.T, options devstack.VaultOptions) *devstack.Vault {
	t.Helper()
	needBinaries(t)
	options.Progress = t.Output()
	vault, err := devstack.StartVault(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vault.Close(); err != nil {
			t.Error(err)
		}
		if vault.Running() {
			t.Error("it still runs")
		}
	})
	return vault
}

func health(t *testing.T, vault *devstack.Vault) int {
	t.Helper()
	status, err := vault.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func lookup(t *testing.T, vault *devstack.Vault, token devstack.Secret) int {
	t.Helper()
	status, err := vault.LookupSelf(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// status returns the status that err stands for, or 0.
func status(err error) int {
	if status, ok := errors.AsType[*devstack.StatusError](err); ok {
		return status.Status
	}
	return 0
}
