package ory

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
	"coffeebuddy/internal/transport"

	api "github.com/ory/client-go"
)

const (
	// grantedFor is how long a positive answer is cached, capped by the token's expiry.
	// Revocation takes effect within this time.
	grantedFor = 30 * time.Second

	// refreshAfter is the age at which a positive answer is refreshed, in the background of a
	// request. The old answer is used meanwhile, until grantedFor.
	refreshAfter = 20 * time.Second

	// refreshPause is the pause after a failed refresh.
	refreshPause = time.Second

	// refusedFor is how long a negative answer is cached: long enough to stop a sender that retries
	// in a loop, short enough for a client that has just been granted the scope.
	refusedFor = 2 * time.Second

	// knownFor is how long a token counts as known after its last positive answer. Requests for
	// known tokens do not compete with those for unknown ones.
	knownFor = 10 * time.Minute

	// answersLimit is the size of the cache. unknownLimit is how many requests for unknown tokens
	// may wait. questionsLimit is how many of them run at a time; as many again may run for known
	// tokens.
	answersLimit   = 4096
	unknownLimit   = 1024
	questionsLimit = 16

	// usableFor is how long a successful [Introspection.Check] is cached.
	usableFor = 30 * time.Second
)

// A Permission is what Ory's response about an access token means.
type Permission int

// The permissions. The zero value permits nothing.
const (
	NotPermitted Permission = iota // expired, revoked, not yet valid, not an access token, for another audience, or unknown
	LacksScope                     // valid, but without the scope
	Permitted
)

// IntrospectionConfig configures an [Introspection].
type IntrospectionConfig struct {
	BaseURL  string        // of Hydra's admin API; may have a path prefix and trailing slashes. No default
	Scope    string        // the one scope that a token must have; no default
	Audience string        // must be among a token's audiences if it has any; no default
	Timeout  time.Duration // of one request; 0 means 2 s
	TTL      time.Duration // how long Hydra's own readiness is cached; 0 means 1 s
	Log      *slog.Logger  // nil discards logs
	OnPanic  func()        // counts panics; nil counts none
}

// Introspection asks an Ory Hydra what access tokens permit (RFC 7662). Answers are cached under a
// hash of the token, for 30 s if positive and for 2 s if negative. At most one request per token
// runs at a time, however many callers wait for it. A flood of unknown tokens delays neither known
// ones nor their refresh.
type Introspection struct {
	config         IntrospectionConfig
	api            *api.Configuration
	known, unknown chan struct{} // one element per running request

	asksReadiness single.Work
	asksUsability single.Work

	mu         sync.Mutex
	answers    map[[sha256.Size]byte]*answer
	waiting    int          // requests for unknown tokens
	swept      time.Time    // when expired answers were last removed
	reason     fault.Reason // of the last request, "" if it succeeded
	ready      error        // Hydra's readiness, from the last request, which began at readyAt
	readyAt    time.Time
	usable     error // result of the last Check, valid until usableTill
	usableTill time.Time
	complained time.Time // when an active but expired token was last reported
}

// answer is the cached result for a token. Introspection's lock guards it.
type answer struct {
	asks       single.Work // one request at a time
	permission Permission
	principal  string    // whose token it is, "" without permission
	err        error     // of the last request
	until      time.Time // when it expires; zero before the first answer
	refresh    time.Time // when a positive answer is refreshed
}

// errBusy means that no slot for a request became free in time.
var errBusy = fault.New(fault.Unavailable, "too many questions are under way")

// NewIntrospection returns an Introspection that connects only when first used.
func NewIntrospection(config IntrospectionConfig) (*Introspection, error) {
	switch {
	case config.BaseURL == "":
		return nil, errors.New("ory: a base URL must be given")
	case config.Scope == "":
		return nil, errors.New("ory: a scope must be given")
	case config.Audience == "":
		return nil, errors.New("ory: an audience must be given")
	}
	if config.Timeout == 0 {
		config.Timeout = 2 * time.Second
	}
	if config.TTL == 0 {
		config.TTL = time.Second
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	kept := transport.New(nil)
	kept.DisableKeepAlives = false // there may be hundreds of requests a second
	kept.MaxConnsPerHost = 2*questionsLimit + 2
	kept.MaxIdleConnsPerHost = kept.MaxConnsPerHost
	kept.IdleConnTimeout = 10 * time.Second
	i := &Introspection{
		config:  config,
		api:     newConfiguration(strings.TrimRight(config.BaseURL, "/"), kept),
		known:   make(chan struct{}, questionsLimit),
		unknown: make(chan struct{}, questionsLimit),
		answers: make(map[[sha256.Size]byte]*answer),
	}
	i.asksReadiness = i.work("question about Ory's readiness")
	i.asksUsability = i.work("check of introspection")
	return i, nil
}

func (i *Introspection) work(name string) single.Work {
	return single.Work{Name: name, Timeout: i.config.Timeout, Log: i.config.Log, OnPanic: i.config.OnPanic}
}

// Permission returns what a token permits and to whom, or why Ory cannot be asked. A caller that
// disconnects does not affect others that wait for the same response.
//
// The principal is a hash of Ory's client_id and sub: the same for all tokens of one client and
// subject. It is "" unless the token is permitted.
func (i *Introspection) Permission(ctx context.Context, token string) (permission Permission, principal string, err error) {
	key := sha256.Sum256([]byte(token))
	i.mu.Lock()
	a, now := i.answers[key], time.Now()
	if a != nil && now.Before(a.until) {
		defer i.mu.Unlock()
		if a.permission == Permitted && !now.Before(a.refresh) {
			i.ask(ctx, key, a, token)
		}
		return a.permission, a.principal, nil
	}
	if a == nil || !a.until.IsZero() && a.permission != Permitted {
		if i.waiting >= unknownLimit {
			i.mu.Unlock()
			return NotPermitted, "", errBusy
		}
		a = &answer{asks: i.work("introspection")}
		i.answers[key] = a
		i.waiting++
	}
	answered := i.ask(ctx, key, a, token)
	i.mu.Unlock()
	select {
	case <-answered:
	case <-ctx.Done():
		return NotPermitted, "", fault.Of(ctx.Err())
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case a.err != nil:
		return NotPermitted, "", a.err
	case a.permission == Permitted && !time.Now().Before(a.until): // the token ended while Ory was asked
		return NotPermitted, "", nil
	}
	return a.permission, a.principal, nil
}

// ask starts a request for a token, or joins the running one. The caller holds the lock.
func (i *Introspection) ask(ctx context.Context, key [sha256.Size]byte, a *answer, token string) (answered <-chan struct{}) {
	known, slots := a.permission == Permitted, i.unknown
	if known {
		slots = i.known
	}
	var (
		told  finding
		asked time.Time
	)
	return a.asks.Start(ctx, func(ctx context.Context) (err error) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return errBusy
		}
		asked = time.Now()
		told, err = i.introspect(ctx, token, known, asked)
		return err
	}, func(err error) {
		i.mu.Lock()
		if !known {
			i.waiting--
		}
		now := time.Now()
		a.err = err
		switch {
		case err == nil:
			a.permission, a.principal, a.until, a.refresh = told.permission, told.principal, told.until, asked.Add(refreshAfter)
			if !a.until.After(a.refresh) {
				a.refresh = a.until // the answer expires with its token
			}
		case known:
			a.refresh = now.Add(refreshPause)
		}
		if !known && err != nil || !i.room(a, now) {
			delete(i.answers, key)
		}
		before := i.reason
		if !errors.Is(err, errBusy) {
			i.reason = fault.ReasonOf(err)
		}
		reason := i.reason
		i.mu.Unlock()
		switch {
		case reason != "" && reason != before:
			i.config.Log.Warn("Ory cannot be asked about tokens", "reason", string(reason), "detail", fault.Of(err).Detail)
		case reason == "" && before != "":
			i.config.Log.Info("Ory can be asked about tokens again")
		}
	})
}

// room makes room for an answer, and reports whether it could. Negative answers never evict others:
// anyone can produce an unlimited number of them. The caller holds the lock.
func (i *Introspection) room(a *answer, now time.Time) bool {
	if len(i.answers) <= answersLimit {
		return true
	}
	if now.Sub(i.swept) >= time.Second {
		i.swept = now
		for key, old := range i.answers {
			if !old.until.IsZero() && old.gone(now) {
				delete(i.answers, key)
			}
		}
	}
	if len(i.answers) <= answersLimit || a.permission != Permitted {
		return len(i.answers) <= answersLimit
	}
	for key, old := range i.answers {
		if !old.until.IsZero() && old != a {
			delete(i.answers, key)
			break
		}
	}
	return true
}

// gone reports whether the answer has no more use.
func (a *answer) gone(now time.Time) bool {
	if a.permission == Permitted {
		return now.Sub(a.until) > knownFor
	}
	return !now.Before(a.until)
}

// A finding is what Ory's response about a token means, and how long it is valid.
type finding struct {
	permission Permission
	until      time.Time
	principal  string
}

// introspect sends a request for a token.
func (i *Introspection) introspect(ctx context.Context, token string, known bool, asked time.Time) (finding, error) {
	t, err := i.question(ctx, url.Values{"token": {token}})
	if err != nil {
		return finding{NotPermitted, asked, ""}, err
	}
	refused := asked.Add(refusedFor)
	if !t.active {
		// A Hydra that has lost its database knows no token, and reports that with a 200. A
		// negative answer counts only while Hydra is ready: a refused sender does not retry, so a
		// valid event would be lost. For a token that was valid, readiness is checked after the
		// negative answer; for the others, of which there may be many, once per TTL.
		since := time.Now()
		if !known {
			since = since.Add(-i.config.TTL)
		}
		return finding{NotPermitted, refused, ""}, i.readySince(ctx, since)
	}
	permission, end, err := t.judge(i.config.Scope, i.config.Audience, asked)
	switch {
	case err != nil:
		return finding{NotPermitted, asked, ""}, err
	case permission == Permitted:
		return finding{Permitted, earlier(end, asked.Add(grantedFor)), t.principal()}, nil
	case permission == LacksScope && t.wildcard():
		return i.wildcard(ctx, token, t.principal(), end, asked)
	}
	if permission == NotPermitted && t.untimely(asked) {
		i.complain(asked)
	}
	return finding{permission, refused, ""}, nil
}

// wildcard asks whether a granted scope such as events.* covers the required one. How Hydra reads
// it depends on Hydra's own configuration (strategies.scope).
func (i *Introspection) wildcard(ctx context.Context, token string, principal string, end, asked time.Time) (finding, error) {
	t, err := i.question(ctx, url.Values{"token": {token}, "scope": {i.config.Scope}})
	switch {
	case err != nil:
		return finding{NotPermitted, asked, ""}, err
	case t.active:
		return finding{Permitted, earlier(end, asked.Add(grantedFor)), principal}, nil
	}
	// As in introspect. Hydra knew the token a moment ago, so readiness from before does not count.
	return finding{LacksScope, asked.Add(refusedFor), ""}, i.readySince(ctx, time.Now())
}

// earlier returns the earlier of two times. A zero end means no limit.
func earlier(end, until time.Time) time.Time {
	if !end.IsZero() && end.Before(until) {
		return end
	}
	return until
}

// complain logs, at most once a minute, that the clocks of Ory and the function disagree.
func (i *Introspection) complain(now time.Time) {
	i.mu.Lock()
	complain := now.Sub(i.complained) >= time.Minute
	if complain {
		i.complained = now
	}
	i.mu.Unlock()
	if complain {
		i.config.Log.Warn("a token was refused that Ory calls active, because it has expired or is not yet valid by the function's clock: compare the clocks")
	}
}

// readySince returns Hydra's readiness from a request that began at or after since.
func (i *Introspection) readySince(ctx context.Context, since time.Time) error {
	for {
		i.mu.Lock()
		if !i.readyAt.Before(since) {
			defer i.mu.Unlock()
			return i.ready
		}
		answered := i.askReadiness(ctx)
		i.mu.Unlock()
		select {
		case <-answered:
		case <-ctx.Done():
			return fault.Of(ctx.Err())
		}
	}
}

// askReadiness starts a request for Hydra's readiness, or joins the running one. The caller holds
// the lock, so that none starts when one has just ended.
func (i *Introspection) askReadiness(ctx context.Context) (answered <-chan struct{}) {
	var began time.Time
	return i.asksReadiness.Start(ctx, func(ctx context.Context) error {
		began = time.Now()
		return ready(ctx, i.api.HTTPClient, i.base()+"/health/ready")
	}, func(err error) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.ready, i.readyAt = err, began
	})
}

// Check returns nil if Ory can introspect tokens. It introspects a value that is no token, at most
// every 30 s after a success.
func (i *Introspection) Check(ctx context.Context) error {
	i.mu.Lock()
	if time.Now().Before(i.usableTill) {
		defer i.mu.Unlock()
		return i.usable
	}
	checked := i.askUsability(ctx)
	i.mu.Unlock()
	select {
	case <-checked:
	case <-ctx.Done():
		return fault.Of(ctx.Err())
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.usable
}

// askUsability introspects a value that is no token, or joins the running request. The caller holds
// the lock.
func (i *Introspection) askUsability(ctx context.Context) (checked <-chan struct{}) {
	return i.asksUsability.Start(ctx, func(ctx context.Context) error {
		_, err := i.question(ctx, url.Values{"token": {"coffeebuddy-asks-whether-it-can-ask"}})
		return err
	}, func(err error) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.usable, i.usableTill = err, time.Time{}
		if err == nil {
			i.usableTill = time.Now().Add(usableFor)
		}
	})
}

func (i *Introspection) base() string { return i.api.Servers[0].URL }

// question sends the request of client-go's OAuth2API.IntrospectOAuth2Token, from its
// configuration. A test compares the two. The call itself is not linked, because it would pull in
// the whole API, 4.4 MB of binary.
//
// The first request names no scope: Hydra would report a token without that scope as inactive.
func (i *Introspection) question(ctx context.Context, form url.Values) (introspected, error) {
	server, err := i.api.ServerURLWithContext(ctx, "OAuth2APIService.IntrospectOAuth2Token")
	if err != nil {
		return introspected{}, fault.New(fault.Misconfigured, "ORY_BASE_URL: no request can be made of it")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/admin/oauth2/introspect", strings.NewReader(form.Encode()))
	if err != nil { // its text quotes the URL
		return introspected{}, fault.New(fault.Misconfigured, "ORY_BASE_URL: no request can be made of it")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", i.api.UserAgent)
	// This header is not sent, but makes net/http retry once if a kept-alive connection turns out
	// to be closed: introspection has no side effects.
	req.Header["X-Idempotency-Key"] = nil
	resp, err := i.api.HTTPClient.Do(req)
	if err != nil {
		return introspected{}, fault.Of(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return introspected{}, fault.New(fault.Misconfigured,
			"ORY_BASE_URL must be Hydra's admin URL where a scope is asked for: there is no token introspection at it")
	default:
		return introspected{}, fault.Status(resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return introspected{}, fault.Of(err)
	}
	return parseIntrospected(body)
}
