package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/ory"
	"coffeebuddy/test/devstack"
	"coffeebuddy/vault"
)

// A calling is what a function does that calls another one: it has its OAuth2 client's id and secret from Vault's KV.
type calling struct {
	platform

	client *http.Client
	url    string

	mu       sync.Mutex
	answered map[int]int
	failed   []time.Time
	last     error
}

func startCalling(t *testing.T, p platform, url string) *calling {
	t.Helper()
	is := is.New(t)
	secrets, err := vault.New(vault.Config{Address: p.vault.URL, Token: vault.FixedToken(p.vault.Token.Reveal())})
	is.NoErr(err)
	outgoing, err := ory.NewOutgoing(ory.OutgoingConfig{
		TokenURL: p.hydra.PublicURL + "/oauth2/token",
		Credentials: func(ctx context.Context) (id, secret string, err error) {
			values, err := secrets.Secret(ctx, vault.KV{Mount: "secret", Path: "coffeebuddy/oauth"})
			return values["client_id"], values["client_secret"], err
		},
	})
	is.NoErr(err)
	client, err := outgoing.Client(ory.Target{BaseURL: url, Scopes: []string{"events"}, Audience: "coffeebuddy"})
	is.NoErr(err)
	return &calling{platform: p, client: client, url: url, answered: make(map[int]int)}
}

// call sends an event, and notes what became of it.
func (c *calling) call(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(`{"coffee":1}`))
	if err != nil {
		return
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/e2e", "Ce-Type": "boson.fn",
	} {
		request.Header.Set(name, value)
	}
	response, err := c.client.Do(request)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed, c.last = append(c.failed, time.Now()), err
		return
	}
	response.Body.Close()
	c.answered[response.StatusCode]++
}

func (c *calling) failures() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.failed), c.last
}

// TestOutgoingCalls has a function called that lets in who has the scope, under load, while the client's secret is rotated and Hydra is
// restarted: no call fails but while Hydra is away.
func TestOutgoingCalls(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	callee := startGuarded(t, p)
	callee.becomes(t, healthy(), soon)
	oauth, err := p.hydra.CreateClientWith(t.Context(), devstack.ClientOptions{
		Scope: "events", Audience: []string{"coffeebuddy"}, TokenTTL: 6 * time.Second,
	})
	is.NoErr(err)
	keep := func(secret devstack.Secret) {
		is.NoErr(p.vault.WriteSecret(t.Context(), "coffeebuddy/oauth", map[string]devstack.Secret{"client_id": devstack.Secret(oauth.ID), "client_secret": secret}))
	}
	keep(oauth.Secret)
	c := startCalling(t, p, callee.url)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				c.call(t.Context())
				pause(ctx, 10*time.Millisecond)
			}
		})
	}
	pause(t.Context(), 8*time.Second) // longer than a token lives
	n, last := c.failures()
	is.NoErr(last)
	is.Equal(n, 0)

	// The secret is rotated in Hydra, and a moment later in Vault.
	rotated := devstack.Secret("rotated-secret-of-the-client")
	is.NoErr(p.hydra.SetSecret(t.Context(), oauth, rotated))
	pause(t.Context(), 500*time.Millisecond)
	keep(rotated)
	pause(t.Context(), 13*time.Second) // two lives of a token
	n, last = c.failures()
	is.NoErr(last)
	is.Equal(n, 0)

	// Hydra is away for longer than a token lives.
	is.NoErr(p.hydra.Stop(t.Context()))
	pause(t.Context(), 10*time.Second)
	n, last = c.failures()
	is.True(n > 0)
	is.True(strings.Contains(last.Error(), "get an access token for the call: refused"))
	is.NoErr(p.hydra.Start(t.Context()))
	back := time.Now()
	pause(t.Context(), 8*time.Second)
	cancel()
	load.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	late := 0
	for _, at := range c.failed {
		if at.After(back) {
			late++
		}
	}
	t.Log("answered:", c.answered, "failed while Hydra was away:", len(c.failed)-late, "after it was back:", late)
	is.Equal(late, 0)
	is.True(c.answered[200] > 500)
	is.Equal(c.answered[401]+c.answered[403], 0)
}

// TestOutgoingCallsThatAreRefused say why.
func TestOutgoingCallsThatAreRefused(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	callee := startGuarded(t, p)
	callee.becomes(t, healthy(), soon)
	for name, test := range map[string]struct {
		options devstack.ClientOptions
		secret  devstack.Secret // "" for the client's
		want    string
	}{
		"a wrong secret":         {devstack.ClientOptions{Scope: "events", Audience: []string{"coffeebuddy"}}, "canary", "denied: the token endpoint refuses the client id or its secret"},
		"a scope it has not":     {devstack.ClientOptions{Scope: "other", Audience: []string{"coffeebuddy"}}, "", "denied: the OAuth2 client may not have the scope"},
		"an audience it has not": {devstack.ClientOptions{Scope: "events"}, "", "denied: the token endpoint refuses the request: the OAuth2 client may not have the audience"},
	} {
		oauth, err := p.hydra.CreateClientWith(t.Context(), test.options)
		is.NoErr(err)
		secret := oauth.Secret
		if test.secret != "" {
			secret = test.secret
		}
		is.NoErr(p.vault.WriteSecret(t.Context(), "coffeebuddy/oauth", map[string]devstack.Secret{"client_id": devstack.Secret(oauth.ID), "client_secret": secret}))
		c := startCalling(t, p, callee.url)
		c.call(t.Context())
		if n, last := c.failures(); n != 1 || !strings.Contains(fmt.Sprint(last), test.want) {
			t.Errorf("%s: %v", name, errors.Join(last))
		}
	}
}
