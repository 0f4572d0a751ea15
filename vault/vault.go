// Package vault is the function's client of HashiCorp Vault: it brings the token and
// keeps it alive, and reads secrets.
//
// A feature asks a [Client] for a secret with [Client.Read] and [Client.Secret], and for
// anything else by [Client.API], which is vault/api's own client. Nothing connects before
// the first use, nothing runs while nobody uses it, and every error has a reason that
// package checks can show.
//
// What does not belong here: HTTP handlers, events, and the environment.
package vault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
	"coffeebuddy/internal/transport"

	"github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is all that a [Client] knows of its server. Nothing else is read from the
// environment.
type Config struct {
	Address   string                // base URL, without /v1; there is no default
	Token     TokenSource           // asked at each use; there is no default
	Login     Login                 // instead of Token
	Namespace string                // for the token's requests; sys/health is asked without
	CACert    string                // file of the PEM certificates to trust instead of the system's; read when a client is built
	Registry  prometheus.Registerer // for the metrics of logins; nil for none
	Log       *slog.Logger          // nil discards
	OnPanic   func()                // counts panics; nil counts none
}

// A Client asks one Vault with the function's token, and keeps that token alive: a
// renewable one is renewed at two thirds of its TTL, wherever it came from, beside the
// use that finds it due. An unused token is never renewed.
//
// A nil Client is that of settings that are missing or wrong: whatever it is asked, its
// error's reason is misconfigured.
type Client struct {
	config Config
	source TokenSource
	login  *logins // nil for none
	renews single.Work

	building sync.Mutex
	built    *clients // nil until first asked, and after a failure that a new client may heal

	looking chan struct{} // a slot for the lookup of the token

	state   sync.Mutex
	lookup  lookup
	renewal renewal
	hint    hint // the last one
	leases  []*Lease
	closed  bool
}

// clients are without and with the function's identity, on one http.Client.
type clients struct{ anonymous, identified *api.Client }

// New returns a client that connects to nothing before it is first used.
func New(config Config) (*Client, error) {
	switch {
	case config.Address == "":
		return nil, errors.New("vault: an address must be given")
	case config.Token == nil && config.Login == Login{}:
		return nil, errors.New("vault: a source of the token, or a login, must be given")
	case config.Token != nil && config.Login != Login{}:
		return nil, errors.New("vault: a source of the token and a login exclude each other")
	case config.Token == nil && config.Login.Role == "":
		return nil, errors.New("vault: a role must be given to log in with")
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		config: config, source: config.Token, looking: make(chan struct{}, 1),
		renews: single.Work{Name: "renewal of the Vault token", Timeout: renewTimeout, Log: config.Log, OnPanic: config.OnPanic},
	}
	if config.Token != nil {
		return c, nil
	}
	c.login = newLogins(config.Login, c)
	c.source = c.login.source
	if config.Registry != nil {
		if err := config.Registry.Register(c.login.count); err != nil {
			return nil, fmt.Errorf("vault: register metrics: %w", err)
		}
	}
	return c, nil
}

// API returns vault/api's client, with the token of the moment and the function's
// namespace. It never retries, follows no redirect and reads at most 64 KiB of a
// response. Ask for it at each use: a token that has changed is seen then.
func (c *Client) API(ctx context.Context) (*api.Client, error) {
	client, _, err := c.use(ctx)
	return client, err
}

// use returns a client with the token of the moment, and that token.
func (c *Client) use(ctx context.Context) (*api.Client, string, error) {
	if c == nil {
		return nil, "", fault.New(fault.Misconfigured, "Vault's settings are missing or wrong")
	}
	clients, err := c.clients()
	if err != nil {
		return nil, "", err
	}
	token, err := c.identify(ctx, clients.identified)
	if err != nil {
		return nil, "", err
	}
	c.tend(clients.identified, token)
	return clients.identified, token, nil
}

// identify gives a client the token of the moment.
func (c *Client) identify(ctx context.Context, client *api.Client) (token string, err error) {
	if token, err = c.source(ctx); err != nil {
		return "", fault.Of(err)
	}
	client.SetToken(token)
	return token, nil
}

// get reads a path, and returns the token that it was read with. A 403 may mean that the
// token of a login has ended before its time: then, and if another login brings a token, it
// is tried once more.
func (c *Client) get(ctx context.Context, path string, query map[string][]string) (resp response, token string, err error) {
	for again := false; ; again = true {
		client, token, err := c.use(ctx)
		if err != nil {
			return response{}, "", err
		}
		resp, err := read(ctx, client, path, query)
		if err != nil {
			return response{}, "", c.heal(err)
		}
		if resp.status != http.StatusForbidden || c.login == nil || again || c.verify(ctx, client, token) == nil {
			return resp, token, nil
		}
		if _, err := c.source(ctx); err != nil {
			return resp, token, nil //nolint:nilerr // Vault has answered
		}
	}
}

// Close ends what the client holds of Vault, best effort and within two seconds: the token
// of a login, and with it its leases, or else the leases. No login and no renewal comes
// after it. Call it when no more work is in flight.
func (c *Client) Close(ctx context.Context) {
	if c == nil {
		return
	}
	c.state.Lock()
	leases, first := c.leases, !c.closed
	c.closed = true
	c.building.Lock()
	built := c.built
	c.building.Unlock()
	c.state.Unlock()
	if !first || built == nil {
		return // it was never used
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	if c.login != nil {
		c.login.close(ctx, func(ctx context.Context) error {
			_, err := write(ctx, built.identified, "auth/token/revoke-self", struct{}{})
			return err
		})
		return
	}
	for _, l := range leases {
		l.revoke(ctx, built.identified)
	}
}

// clients returns the clients in use, or builds them.
func (c *Client) clients() (*clients, error) {
	c.building.Lock()
	defer c.building.Unlock()
	if c.built != nil {
		return c.built, nil
	}
	built, err := build(c.config, c.doubt)
	if err != nil {
		return nil, err
	}
	c.built = built
	return built, nil
}

// heal has the clients built anew after an error that this may help against: the
// certificates to trust may have changed on disk. It returns the error.
func (c *Client) heal(err error) error {
	if fault.ReasonOf(err) == fault.TLS {
		c.building.Lock()
		defer c.building.Unlock()
		c.built = nil
	}
	return err
}

// build builds the clients from config alone. vault/api would read some twenty variables
// from the environment, retry twice, wait 60 s, and send the token wherever a redirect
// points; NewClient reads the environment even when a configuration is given, which is
// why VAULT_* is taken out of it at start.
func build(config Config, doubt func(token string)) (*clients, error) {
	roots, err := readRoots(config.CACert)
	if err != nil {
		return nil, err
	}
	httpClient := &http.Client{
		Transport: doubting{transport.Bounded{Next: transport.New(roots)}, doubt},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return fault.New(fault.BadResponse, "a redirect, which is not followed")
		},
	}
	built := new(clients)
	for _, c := range []**api.Client{&built.anonymous, &built.identified} {
		client, err := api.NewClient(&api.Config{
			Address: config.Address, HttpClient: httpClient, MaxRetries: 0, DisableRedirects: true,
		})
		if err != nil { // its text may quote the address
			return nil, fault.New(fault.Misconfigured, "the Vault client cannot be built")
		}
		client.ClearToken()
		client.ClearNamespace()
		client.SetWrappingLookupFunc(func(string, string) string { return "" })
		*c = client
	}
	if config.Namespace != "" {
		built.identified.SetNamespace(config.Namespace)
	}
	return built, nil
}

// readRoots returns the certificates of a file, nil for no file.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := readFile(file, 1<<20)
	if err != nil {
		return nil, fault.New(fault.Misconfigured, "VAULT_CACERT: "+err.Error())
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Misconfigured, "VAULT_CACERT: the file holds no PEM certificate")
	}
	return roots, nil
}

// doubting tells of each 403 that a token was answered with, whoever used it.
type doubting struct {
	next  http.RoundTripper
	doubt func(token string)
}

func (d doubting) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusForbidden {
		if token := req.Header.Get(api.AuthHeaderName); token != "" {
			d.doubt(token)
		}
	}
	return resp, err
}
