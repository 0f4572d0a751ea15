// Package ory is the function's client for an Ory server: it asks Hydra what an access token
// permits, and gives features what they need to call any of the server's APIs.
//
// Nothing connects before the first use, and every error has a reason that package checks can show.
//
// This package does not deal with HTTP handlers, events, or the environment.
package ory

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/transport"

	api "github.com/ory/client-go"
)

// redirectLimit is how many redirects on the same host are followed. Kratos' admin port redirects
// once.
const redirectLimit = 3

// Config configures a [Client].
type Config struct {
	BaseURL string // may have a path prefix and trailing slashes; no default
}

// A Client sends requests to one Ory server: Hydra, Kratos, Keto, or Oathkeeper's API port.
type Client struct {
	base string

	building sync.Mutex
	built    *api.Configuration // nil before the first request, and after a failure that a new client may fix
}

// New returns a client that connects only when first used.
func New(config Config) (*Client, error) {
	if config.BaseURL == "" {
		return nil, errors.New("ory: a base URL must be given")
	}
	return &Client{base: strings.TrimRight(config.BaseURL, "/")}, nil
}

// Configuration returns the client's configuration, and builds it if necessary. A feature passes it
// to client-go's NewAPIClient. It knows only our server, uses no proxy, reads at most 64 KiB of a
// response and follows no redirect to another host. client-go's default is Ory's public network
// without a timeout.
//
// The API client itself is not built here: the function does not use it, and its calls add 4.4 MB
// of binary.
func (c *Client) Configuration() *api.Configuration {
	c.building.Lock()
	defer c.building.Unlock()
	if c.built == nil {
		c.built = newConfiguration(c.base, transport.New(nil))
	}
	return c.built
}

func newConfiguration(base string, next *http.Transport) *api.Configuration {
	c := api.NewConfiguration()
	c.Servers = api.ServerConfigurations{{URL: base}}
	c.OperationServers = nil // otherwise some calls go to Ory's public network, whatever Servers says
	c.HTTPClient = &http.Client{Transport: transport.Bounded{Next: next}, CheckRedirect: sameHost}
	return c
}

// Ready checks the server's own readiness: GET {base}/health/ready must return 200 and
// {"status":"ok"}. The newest client-go has no call for it.
func (c *Client) Ready(ctx context.Context) error {
	err := ready(ctx, c.Configuration().HTTPClient, c.base+"/health/ready")
	if fault.ReasonOf(err) == fault.TLS { // the certificates to trust may have changed on disk
		c.building.Lock()
		defer c.building.Unlock()
		c.built = nil
	}
	return err
}

func ready(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil { // its text quotes the URL
		return fault.New(fault.Misconfigured, "ORY_BASE_URL: no request can be made of it")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return fault.Of(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fault.Status(resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fault.Of(err)
	}
	var answer struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Status != "ok" {
		return fault.New(fault.BadResponse, "health/ready did not answer as Ory does")
	}
	return nil
}

// sameHost follows up to redirectLimit redirects that keep scheme, host and port.
func sameHost(next *http.Request, via []*http.Request) error {
	switch first := via[0].URL; {
	case len(via) > redirectLimit:
		return fault.New(fault.BadResponse, "too many redirects")
	case next.URL.Scheme != first.Scheme, !strings.EqualFold(next.URL.Hostname(), first.Hostname()),
		port(next.URL) != port(first):
		return fault.New(fault.BadResponse, "a redirect to another host, which is not followed")
	}
	return nil
}
