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
	"io"
	"log/slog"
	"net/http"
	"sync"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
	"coffeebuddy/internal/transport"

	"github.com/hashicorp/vault/api"
)

// Config is all that a [Client] knows of its server. Nothing else is read from the
// environment.
type Config struct {
	Address   string       // base URL, without /v1; there is no default
	Token     TokenSource  // asked at each use; there is no default
	Namespace string       // for the token's requests; sys/health is asked without
	CACert    string       // file of the PEM certificates to trust instead of the system's; read when a client is built
	Log       *slog.Logger // nil discards
	OnPanic   func()       // counts panics; nil counts none
}

// A Client asks one Vault with the function's token, and keeps that token alive: a
// renewable one is renewed at two thirds of its TTL, wherever it came from, beside the
// use that finds it due. An unused token is never renewed.
type Client struct {
	config Config

	building sync.Mutex
	built    *clients // nil until first asked, and after a failure that a new client may heal

	identifying sync.Mutex // one at a time asks for the token

	looking sync.Mutex // one lookup at a time
	lookup  lookup

	tending sync.Mutex
	renewal renewal
	renews  single.Work
}

// clients are without and with the function's identity, on one http.Client.
type clients struct{ anonymous, identified *api.Client }

// New returns a client that connects to nothing before it is first used.
func New(config Config) (*Client, error) {
	switch {
	case config.Address == "":
		return nil, errors.New("vault: an address must be given")
	case config.Token == nil:
		return nil, errors.New("vault: a source of the token must be given")
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		config: config,
		renews: single.Work{Name: "renewal of the Vault token", Timeout: renewTimeout, Log: config.Log, OnPanic: config.OnPanic},
	}, nil
}

// API returns vault/api's client, with the token of the moment and the function's
// namespace. It never retries, follows no redirect and reads at most 64 KiB of a
// response. Ask for it at each use: a token that has changed is seen then.
func (c *Client) API(ctx context.Context) (*api.Client, error) {
	clients, err := c.clients()
	if err != nil {
		return nil, err
	}
	token, err := c.identify(ctx, clients.identified)
	if err != nil {
		return nil, err
	}
	c.tend(clients.identified, token)
	return clients.identified, nil
}

// identify gives a client the token of the moment.
func (c *Client) identify(ctx context.Context, client *api.Client) (token string, err error) {
	c.identifying.Lock()
	defer c.identifying.Unlock()
	if token, err = c.config.Token(ctx); err != nil {
		return "", fault.Of(err)
	}
	client.SetToken(token)
	return token, nil
}

// clients returns the clients in use, or builds them.
func (c *Client) clients() (*clients, error) {
	c.building.Lock()
	defer c.building.Unlock()
	if c.built != nil {
		return c.built, nil
	}
	built, err := build(c.config)
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
func build(config Config) (*clients, error) {
	roots, err := readRoots(config.CACert)
	if err != nil {
		return nil, err
	}
	httpClient := &http.Client{
		Transport: transport.Bounded{Next: transport.New(roots)},
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

// read returns what Vault answers at a path, whatever the status.
func read(ctx context.Context, client *api.Client, path string, query map[string][]string) (status int, body []byte, err error) {
	resp, err := client.Logical().ReadRawWithDataWithContext(ctx, path, query)
	var answered *api.ResponseError // its text quotes the URL and the body: read for its type only
	if err != nil && (resp == nil || !errors.As(err, &answered)) {
		return 0, nil, fault.Of(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fault.Of(fmt.Errorf("read %s: %w", path, err))
	}
	return resp.StatusCode, body, nil
}
