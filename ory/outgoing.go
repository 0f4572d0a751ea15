package ory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
	"coffeebuddy/internal/transport"
)

// OutgoingConfig configures an [Outgoing].
type OutgoingConfig struct {
	// TokenURL is Hydra's public token endpoint. There is no default.
	TokenURL string

	// Credentials returns the OAuth2 client's id and secret. It is called before each token
	// request, so that they rotate without a restart. There is no default.
	Credentials func(context.Context) (id, secret string, err error)

	Log     *slog.Logger // nil discards logs
	OnPanic func()       // counts panics; nil counts none
}

// Outgoing makes HTTP clients whose requests carry an access token, which Hydra issues
// for the function's own OAuth2 client (client credentials, RFC 6749, section 4.4).
type Outgoing struct {
	config       OutgoingConfig
	client       *http.Client // for the token endpoint
	secretInBody atomic.Bool  // how the token endpoint accepted the secret last
}

// NewOutgoing returns an Outgoing that connects only on the first call.
func NewOutgoing(config OutgoingConfig) (*Outgoing, error) {
	switch u, err := url.Parse(config.TokenURL); {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil:
		return nil, errors.New("ory: the token endpoint must be an absolute URL, http or https, without a user")
	case config.Credentials == nil:
		return nil, errors.New("ory: the OAuth2 client's credentials must be given")
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Outgoing{config: config, client: &http.Client{
		Transport: transport.Bounded{Next: transport.New(nil)},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return fault.New(fault.BadResponse, "a redirect, which is not followed: the client's secret would go there")
		},
	}}, nil
}

// A Target is what an HTTP client from [Outgoing.Client] calls.
type Target struct {
	// BaseURL limits the requests: its scheme, host and port, and paths at or below its own. There
	// is no default.
	BaseURL string

	Scopes    []string          // requested for the token; optional
	Audience  string            // requested for the token; optional
	Transport http.RoundTripper // for the calls; nil means a transport without a proxy
}

// Client returns an http.Client for a target. The token is requested on the first call, once for
// all concurrent callers. It is replaced at two thirds of its lifetime in the background of a call,
// and once after a 401. The token is sent only to the target: any other request fails, and so does
// a redirect elsewhere.
//
// Each call's only deadline is that of its context. If Hydra issues no token, the call fails with
// the reason. After a 401 a request is retried if its body can be resent (http.NewRequest sees to
// that for the usual readers).
//
// A nil Outgoing stands for a function without an OAuth2 client: Client returns an error.
func (o *Outgoing) Client(target Target) (*http.Client, error) {
	if o == nil {
		return nil, errors.New("ory: there is no OAuth2 client to call others with: COFFEEBUDDY_OAUTH_CLIENT is not set")
	}
	base, err := url.Parse(target.BaseURL)
	switch {
	case err != nil: // its text quotes the URL
		return nil, errors.New("ory: the base URL is not a URL")
	case base.Scheme != "http" && base.Scheme != "https", base.Hostname() == "", base.User != nil,
		base.RawQuery != "", base.ForceQuery, base.Fragment != "", !plain(base):
		return nil, errors.New("ory: the base URL must be absolute, http or https, without a user, a query, a fragment and dot segments")
	}
	next := target.Transport
	if next == nil {
		direct := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // net/http's own
		direct.Proxy = nil                                        // a proxy would see the token for a plain http target
		next = direct
	}
	c := &caller{
		base: base, next: next,
		tokens: &tokens{
			outgoing: o, scopes: target.Scopes, audience: target.Audience,
			work: single.Work{Name: "fetch of an access token", Timeout: fetchTimeout, Log: o.config.Log, OnPanic: o.config.OnPanic},
		},
	}
	return &http.Client{Transport: c, CheckRedirect: c.redirect}, nil
}

// A caller sends requests with a token to one target.
type caller struct {
	base   *url.URL
	next   http.RoundTripper
	tokens *tokens
}

// RoundTrip implements http.RoundTripper.
func (c *caller) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := c.token(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	resp, err := c.next.RoundTrip(with(req, req.Body, token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	hasBody := req.Body != nil && req.Body != http.NoBody
	if !c.tokens.refused(token) || hasBody && req.GetBody == nil {
		return resp, nil
	}
	if token, err = c.tokens.get(req.Context()); err != nil {
		return resp, nil //nolint:nilerr // the response is there
	}
	body := req.Body
	if hasBody { // opened only here, because c.next closes what it is given
		if body, err = req.GetBody(); err != nil {
			return resp, nil //nolint:nilerr // the response is there
		}
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096)) // so that the connection can be reused
	_ = resp.Body.Close()
	return c.next.RoundTrip(with(req, body, token))
}

func (c *caller) token(req *http.Request) (string, error) {
	if !c.covers(req) {
		return "", errors.New("the request is not below the client's base URL: it is not sent, and neither is a token")
	}
	token, err := c.tokens.get(req.Context())
	if err != nil {
		return "", fmt.Errorf("get an access token for the call: %w", err)
	}
	return token, nil
}

// with returns a copy of a request with a token. A RoundTripper must not change the caller's
// request.
func with(req *http.Request, body io.ReadCloser, token string) *http.Request {
	sent := req.Clone(req.Context())
	sent.Body = body
	sent.Header.Set("Authorization", "Bearer "+token)
	return sent
}

// covers reports whether a request is within the target.
func (c *caller) covers(req *http.Request) bool {
	u := req.URL
	if !strings.EqualFold(u.Scheme, c.base.Scheme) || !strings.EqualFold(u.Hostname(), c.base.Hostname()) ||
		port(u) != port(c.base) || u.User != nil || u.Opaque != "" || !plain(u) ||
		req.Host != "" && !strings.EqualFold(req.Host, u.Host) {
		return false
	}
	base, path := strings.TrimRight(c.base.EscapedPath(), "/"), u.EscapedPath()
	return base == "" || path == base || strings.HasPrefix(path, base+"/")
}

// redirect follows the redirects that net/http follows, if they stay within the target.
func (c *caller) redirect(next *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return errors.New("stopped after 10 redirects")
	case !c.covers(next):
		return errors.New("a redirect to outside of the client's base URL, which is not followed")
	}
	return nil
}

// plain reports whether all servers interpret the path in the same way: it has no dot segments and
// no encoded slashes.
func plain(u *url.URL) bool {
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." || strings.HasPrefix(segment, "..;") || strings.HasPrefix(segment, ".;") {
			return false
		}
	}
	escaped := strings.ToLower(u.EscapedPath())
	for _, part := range []string{"\\", "%5c", "%2f", "%2e", "%255c", "%252f", "%252e"} {
		if strings.Contains(escaped, part) {
			return false
		}
	}
	return true
}

func port(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	}
	return "80"
}
