package ory

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
	"coffeebuddy/internal/transport"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	// fetchTimeout is the timeout of one fetch, including the read of the credentials. A call waits
	// no longer than its own deadline.
	fetchTimeout = 5 * time.Second

	// fetchPause is the pause after a failed fetch while calls wait for a token. If the old token
	// is still valid, it is the first pause, and doubles up to refetchMax, but ends with that token.
	fetchPause = 500 * time.Millisecond
	refetchMax = 15 * time.Second

	// refusedPause is the first pause after a fresh token also got a 401; it doubles up to
	// refusedMax. During the pause a 401 causes no fetch.
	refusedPause = time.Second
	refusedMax   = 30 * time.Second
)

// tokens holds the access tokens for one target: the current one, and the fetch of the next.
type tokens struct {
	outgoing *Outgoing
	scopes   []string
	audience string
	work     single.Work

	mu       sync.Mutex
	token    string
	expires  time.Time // zero: Hydra did not say
	refresh  time.Time
	begun    int       // number of the last fetch that began
	ended    int       // number of the last fetch that ended
	err      error     // of that fetch
	next     time.Time // earliest time of the next fetch
	pause    time.Duration
	failing  fault.Reason // the reason that was logged
	pauseEnd time.Time    // earliest time of the next fetch for a 401
	refusals time.Duration
}

// get returns the current token. If there is none, it waits for a fetch that began after the call
// to get, so that its error is current: after a failed fetch that was already running, it waits for
// the next one.
func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for before := t.begun; ; {
		now := time.Now()
		switch {
		case t.good(now):
			if !t.refresh.IsZero() && !now.Before(t.refresh) && !now.Before(t.next) {
				t.fetch(ctx)
			}
			return t.token, nil
		case t.err != nil && t.ended > before:
			return "", t.err
		}
		if err := t.wait(ctx, now); err != nil {
			return "", err
		}
	}
}

// wait waits until a fetch ends, or until the next one may begin. The caller holds the lock, which
// is released meanwhile.
func (t *tokens) wait(ctx context.Context, now time.Time) error {
	var (
		fetched <-chan struct{}
		paused  <-chan time.Time
		err     = t.err
	)
	if now.Before(t.next) {
		paused = time.After(t.next.Sub(now))
	} else {
		fetched = t.fetch(ctx)
	}
	t.mu.Unlock()
	defer t.mu.Lock()
	select {
	case <-fetched:
	case <-paused:
	case <-ctx.Done():
		return last(ctx, err)
	}
	return nil
}

// last returns why there was no token when ctx ended. The last fetch's error says more than that of
// ctx.
func last(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return fault.Of(ctx.Err())
}

// good reports whether the token can be used at the given time. The caller holds the lock.
func (t *tokens) good(now time.Time) bool {
	return t.token != "" && (t.expires.IsZero() || now.Before(t.expires))
}

// refused records that a token got a 401, and reports whether to retry with another one.
func (t *tokens) refused(token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case token != t.token:
		return true // there is already another token
	case now.Before(t.pauseEnd):
		return false
	case now.Sub(t.pauseEnd) > refusedMax:
		t.refusals = 0
	}
	t.refusals = min(max(2*t.refusals, refusedPause), refusedMax)
	t.pauseEnd = now.Add(t.refusals)
	t.token, t.next = "", time.Time{}
	return true
}

// fetch starts a fetch, or joins the running one. The caller holds the lock.
func (t *tokens) fetch(ctx context.Context) (fetched <-chan struct{}) {
	var (
		token *oauth2.Token
		asked time.Time
	)
	return t.work.Start(ctx, func(ctx context.Context) (err error) {
		t.mu.Lock()
		t.begun++
		t.mu.Unlock()
		asked = time.Now()
		token, err = t.outgoing.token(ctx, t.scopes, t.audience)
		return err
	}, func(err error) {
		t.mu.Lock()
		before, now := t.failing, time.Now()
		t.ended, t.err, t.failing = t.begun, err, fault.ReasonOf(err)
		switch {
		case err == nil:
			t.token, t.expires, t.refresh = token.AccessToken, token.Expiry, time.Time{}
			if !t.expires.IsZero() {
				t.refresh = asked.Add(t.expires.Sub(asked) * 2 / 3)
			}
			t.next, t.pause = time.Time{}, 0
		case t.good(now):
			t.pause = min(max(2*t.pause, fetchPause), refetchMax)
			t.next = earlier(t.expires, now.Add(t.pause))
		default:
			t.next = now.Add(fetchPause)
		}
		after := t.failing
		t.mu.Unlock()
		switch log := t.outgoing.config.Log; {
		case after != "" && after != before:
			log.Warn("there is no access token for outgoing calls", "reason", string(after), "detail", fault.Of(err).Detail)
		case after == "" && before != "":
			log.Info("there are access tokens for outgoing calls again")
		}
	})
}

// token requests a token. The texts of oauth2's errors quote the response, so they are not used.
func (o *Outgoing) token(ctx context.Context, scopes []string, audience string) (*oauth2.Token, error) {
	id, secret, err := o.config.Credentials(ctx)
	if err != nil {
		e := fault.Of(err)
		return nil, fault.New(e.Reason, "the OAuth2 client's credentials cannot be read: "+e.Detail)
	}
	config := &clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: o.config.TokenURL, Scopes: scopes}
	if audience != "" {
		config.EndpointParams = url.Values{"audience": {audience}}
	}
	token, err := o.request(context.WithValue(ctx, oauth2.HTTPClient, o.client), config)
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return nil, refusal(refused)
	}
	if transportError, ok := errors.AsType[*url.Error](err); ok {
		e := fault.Of(transportError)
		return nil, fault.New(e.Reason, "the token endpoint cannot be asked: "+e.Detail)
	}
	if err != nil || !strings.EqualFold(token.Type(), "Bearer") ||
		!transport.IsVisible(token.AccessToken) || !token.Expiry.IsZero() && !time.Now().Before(token.Expiry) {
		return nil, fault.New(fault.BadResponse, "the token endpoint did not answer with a bearer token")
	}
	return token, nil
}

// request sends the secret as it was accepted last: at first in the header (client_secret_basic).
// Only if the endpoint refuses the client, it tries the other way, the body (client_secret_post):
// after any other error, a second refusal would hide the reason.
func (o *Outgoing) request(ctx context.Context, config *clientcredentials.Config) (*oauth2.Token, error) {
	inBody := o.secretInBody.Load()
	config.AuthStyle = authStyle(inBody)
	token, err := config.Token(ctx)
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || refused.ErrorCode != "invalid_client" {
		return token, err
	}
	config.AuthStyle = authStyle(!inBody)
	if token, err = config.Token(ctx); err == nil {
		o.secretInBody.Store(!inBody)
	}
	return token, err
}

func authStyle(inBody bool) oauth2.AuthStyle {
	if inBody {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// refusal returns why there is no token, based on the error codes of RFC 6749, section 5.2, and
// Hydra's own.
func refusal(err *oauth2.RetrieveError) error {
	switch err.ErrorCode {
	case "invalid_client":
		return fault.New(fault.Denied, "the token endpoint refuses the client id or its secret")
	case "unauthorized_client", "unsupported_grant_type":
		return fault.New(fault.Denied, "the OAuth2 client may not use the grant client_credentials")
	case "invalid_scope":
		return fault.New(fault.Denied, "the OAuth2 client may not have the scope")
	case "invalid_request":
		return fault.New(fault.Denied, "the token endpoint refuses the request: the OAuth2 client may not have the audience")
	}
	if err.Response == nil {
		return fault.New(fault.BadResponse, "the token endpoint did not answer with a bearer token")
	}
	switch status := err.Response.StatusCode; {
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return fault.New(fault.Misconfigured, "COFFEEBUDDY_TOKEN_URL: there is no token endpoint at it")
	case status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fault.New(fault.Denied, "the token endpoint refuses the client")
	case status != http.StatusOK:
		return fault.Status(status)
	}
	return fault.New(fault.BadResponse, "the token endpoint did not answer with a bearer token")
}
