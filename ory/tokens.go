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
	// fetchTimeout is the deadline of one fetch, the read of the credentials included. A
	// call waits for it no longer than its own deadline.
	fetchTimeout = 5 * time.Second

	// fetchPause is the pause after a fetch that failed, where calls wait for a token, and
	// the first one where the old token is still good; that one doubles up to refetchMax.
	fetchPause = 500 * time.Millisecond
	refetchMax = 15 * time.Second

	// refusedPause is the first pause after a fresh token that was answered with 401 as
	// well; it doubles up to refusedMax. Meanwhile a 401 is only a 401.
	refusedPause = time.Second
	refusedMax   = 30 * time.Second
)

// tokens are the access tokens of one target: the one in use, and the fetch of the next.
type tokens struct {
	outgoing *Outgoing
	scopes   []string
	audience string
	work     single.Work

	mu       sync.Mutex
	token    string
	expires  time.Time // zero: Hydra did not say
	refresh  time.Time
	err      error     // of the last fetch
	next     time.Time // no fetch before
	pause    time.Duration
	failing  fault.Reason // as was logged
	patience time.Time    // no fetch for a 401 before
	refusals time.Duration
}

// get returns the token of the moment. Where there is none it waits for a fetch that
// began after it was asked, so that its error is of now.
func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	if now := time.Now(); t.good(now) {
		defer t.mu.Unlock()
		if !t.refresh.IsZero() && !now.Before(t.refresh) && !now.Before(t.next) {
			t.fetch(ctx)
		}
		return t.token, nil
	}
	running, next, err := t.work.Running(), t.next, t.err
	t.mu.Unlock()
	if running == nil && !waitFor(ctx, next) {
		return "", last(ctx, err)
	}
	t.mu.Lock()
	fetched := t.fetch(ctx)
	t.mu.Unlock()
	select {
	case <-fetched:
	case <-ctx.Done():
		return "", last(ctx, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.good(time.Now()) {
		return t.token, nil
	}
	return "", t.err
}

// last returns why there was no token when ctx ended: the error of the last fetch says
// more than that of ctx.
func last(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return fault.Of(ctx.Err())
}

// good reports whether the token can be used at now. The lock is held.
func (t *tokens) good(now time.Time) bool {
	return t.token != "" && (t.expires.IsZero() || now.Before(t.expires))
}

// refused takes in that a token was answered with 401, and reports whether to try with
// another one.
func (t *tokens) refused(token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case token != t.token:
		return true // there is another one already
	case now.Before(t.patience):
		return false
	case now.Sub(t.patience) > refusedMax:
		t.refusals = 0
	}
	t.refusals = min(max(2*t.refusals, refusedPause), refusedMax)
	t.patience = now.Add(t.refusals)
	t.token, t.next = "", time.Time{}
	return true
}

// fetch starts a fetch, or joins the one under way. The lock is held.
func (t *tokens) fetch(ctx context.Context) (fetched <-chan struct{}) {
	var (
		token *oauth2.Token
		asked time.Time
	)
	return t.work.Start(ctx, func(ctx context.Context) (err error) {
		asked = time.Now()
		token, err = t.outgoing.token(ctx, t.scopes, t.audience)
		return err
	}, func(err error) {
		t.mu.Lock()
		before, now := t.failing, time.Now()
		t.err, t.failing = err, fault.ReasonOf(err)
		switch {
		case err == nil:
			t.token, t.expires, t.refresh = token.AccessToken, token.Expiry, time.Time{}
			if !t.expires.IsZero() {
				t.refresh = asked.Add(t.expires.Sub(asked) * 2 / 3)
			}
			t.next, t.pause = time.Time{}, 0
		case t.good(now):
			t.pause = min(max(2*t.pause, fetchPause), refetchMax)
			t.next = now.Add(t.pause)
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

// token asks the token endpoint. The texts of oauth2's errors quote its response.
func (o *Outgoing) token(ctx context.Context, scopes []string, audience string) (*oauth2.Token, error) {
	id, secret, err := o.config.Credentials(ctx)
	if err != nil {
		e := fault.Of(err)
		return nil, fault.New(e.Reason, "the OAuth2 client's credentials cannot be read: "+e.Detail)
	}
	config := clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: o.config.TokenURL, Scopes: scopes}
	if audience != "" {
		config.EndpointParams = url.Values{"audience": {audience}}
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, o.client))
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return nil, refusal(refused)
	}
	if transportError, ok := errors.AsType[*url.Error](err); ok {
		e := fault.Of(transportError)
		return nil, fault.New(e.Reason, "the token endpoint cannot be asked: "+e.Detail)
	}
	if err != nil || !strings.EqualFold(token.Type(), "Bearer") ||
		!transport.IsVisible(token.AccessToken) {
		return nil, fault.New(fault.BadResponse, "the token endpoint did not answer with a bearer token")
	}
	return token, nil
}

// refusal says why there is no token, by the error codes of RFC 6749, section 5.2, and
// Hydra's.
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
