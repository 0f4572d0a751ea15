// Package vault is the function's client for HashiCorp Vault: it obtains the token, renews it, and
// reads secrets.
//
// A feature reads a secret with [Client.Read] or [Client.Secret], and does anything else with
// [Client.API], which returns vault/api's own client. Nothing connects before the first use,
// nothing runs while the client is unused, and every error has a reason that package checks can
// show.
//
// This package does not deal with HTTP handlers, events, or the environment.
package vault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
	"coffeebuddy/internal/transport"

	"github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
)

// Config configures a [Client]. Nothing else is read from the environment.
type Config struct {
	Address   string                // base URL, without /v1; no default
	Token     TokenSource           // called on each use; no default
	Login     Login                 // replaces Token
	Namespace string                // for requests with the token; sys/health is requested without it
	CACert    string                // PEM file of the certificates to trust instead of the system's; read when a client is built
	Registry  prometheus.Registerer // for the metrics of logins; nil for none
	Log       *slog.Logger          // nil discards logs
	OnPanic   func()                // counts panics; nil counts none
}

// A Client sends requests to one Vault with the function's token, and keeps the token valid: a
// renewable token, from whatever source, is renewed at two thirds of its TTL, in the background of
// the use that finds it due. An unused token is never renewed.
//
// A nil Client stands for missing or wrong settings: every method that returns an error returns one
// with the reason misconfigured.
type Client struct {
	config Config
	source TokenSource
	login  *logins // nil for none
	renews single.Work

	building sync.Mutex
	built    *clients // nil before the first request, and after a failure that a new client may fix

	looking chan struct{} // held during a lookup of the token

	state   sync.Mutex
	lookup  lookup
	renewal renewal
	hints   map[refusal]hint
	leases  []*Lease
	closed  bool
}

// clients are one client without the function's identity and one with it; they share one
// http.Client.
type clients struct {
	anonymous, identified *api.Client                // identified has no token
	current               atomic.Pointer[api.Client] // identified with the current token; nil before the first use
}

// with returns the client with a token. The token of a client never changes, so that no request is
// sent with a token other than its own.
func (c *clients) with(token string) *api.Client {
	if client := c.current.Load(); client != nil && client.Token() == token {
		return client
	}
	client := c.identified.WithNamespace(c.identified.Namespace()) // a copy
	client.SetToken(token)
	c.current.Store(client)
	return client
}

// New returns a client that connects only when first used.
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
		config: config, source: config.Token, looking: make(chan struct{}, 1), hints: make(map[refusal]hint),
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

// API returns vault/api's client with the current token and the function's namespace. It never
// retries, follows no redirects and reads at most 64 KiB of a response. It keeps its token: call API
// on each use, so that a changed one is noticed.
func (c *Client) API(ctx context.Context) (*api.Client, error) {
	client, _, err := c.use(ctx)
	return client, err
}

// use returns a client with the current token, and that token.
func (c *Client) use(ctx context.Context) (*api.Client, string, error) {
	if c == nil {
		return nil, "", fault.New(fault.Misconfigured, "Vault's settings are missing or wrong")
	}
	clients, err := c.clients()
	if err != nil {
		return nil, "", err
	}
	client, token, err := c.identify(ctx, clients)
	if err != nil {
		return nil, "", err
	}
	c.maintain(client, token)
	return client, token, nil
}

// identify returns the client with the current token, and that token.
func (c *Client) identify(ctx context.Context, clients *clients) (client *api.Client, token string, err error) {
	if token, err = c.source(ctx); err != nil {
		return nil, "", fault.Of(err)
	}
	return clients.with(token), token, nil
}

// get reads a path, and returns the token that it used. A 403 may mean that a login's token ended
// early: if a new login then returns another token, get retries once.
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
		if resp.status != http.StatusForbidden || c.login == nil || again || c.reverify(ctx, client, token) == nil {
			return resp, token, nil
		}
		if _, err := c.source(ctx); err != nil {
			return resp, token, nil //nolint:nilerr // Vault has answered
		}
	}
}

// Close revokes what the client holds in Vault, best effort and within two seconds: a login's
// token, which ends its leases too, or else the leases. It waits for a login, or reads of leases,
// that are under way, to revoke what they bring. No login or renewal follows. Call it when no work
// is in flight.
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
		return // never used
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	if c.login != nil {
		c.login.close(ctx, built)
		return
	}
	var closing sync.WaitGroup
	for _, l := range leases {
		closing.Go(func() { l.close(ctx, built) })
	}
	closing.Wait()
}

// clients returns the clients, and builds them if necessary.
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

// heal returns the error it is given. If new clients may fix the error, they are rebuilt: the
// certificates to trust may have changed on disk.
func (c *Client) heal(err error) error {
	if fault.ReasonOf(err) == fault.TLS {
		c.building.Lock()
		defer c.building.Unlock()
		c.built = nil
	}
	return err
}

// build builds the clients from config alone. By default, vault/api would read some twenty
// environment variables, retry twice, wait 60 s, and send the token wherever a redirect points.
// NewClient reads the environment even with a configuration, which is why Load unsets VAULT_*.
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

// readRoots returns the certificates in a file, or nil without a file.
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

// doubting reports each 403 for a request with a token, whoever sent it.
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
