package checks

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	ory "github.com/ory/client-go"
)

const (
	// grantedFor is how long a good token is believed without asking again, if it
	// lives that long: so late may a revocation be seen.
	grantedFor = 30 * time.Second

	// refusedFor is the same for any other: long enough for a sender who tries over
	// and over, short enough for one who has just been let in.
	refusedFor = 2 * time.Second

	// answersLimit is how many answers are kept, questionsLimit how many questions
	// are under way, and introspectionConns on how many connections.
	answersLimit       = 4096
	questionsLimit     = 128
	introspectionConns = 16
)

// A Permission is what Ory's answer about an access token means.
type Permission int

// The permissions. The zero value permits nothing.
const (
	NotPermitted Permission = iota // expired, revoked, no access token, of another audience, or unknown
	LacksScope                     // good, but without the scope
	Permitted
)

// IntrospectionConfig is what an [Introspection] asks for.
type IntrospectionConfig struct {
	BaseURL  string        // of Hydra's admin API; it may have a path prefix and trailing slashes
	Scope    string        // one scope that a token must have
	Audience string        // must be among a token's audiences, if that has any
	Timeout  time.Duration // of one question
	Log      *slog.Logger  // nil discards
}

// Introspection asks an Ory Hydra what access tokens are good for (RFC 7662). Answers
// are kept for 30 s, or 2 s if they refuse, under a hash of the token. There is one
// question about a token at a time, whoever waits for it.
type Introspection struct {
	config IntrospectionConfig
	ory    *ory.Configuration

	mu      sync.Mutex
	answers map[[sha256.Size]byte]*introspected
	asking  int
	swept   time.Time // when answers that are too old were last dropped
	trouble Reason    // of the last question, "" if it was answered
}

// introspected is an answer, or the question that is under way. Introspection's lock
// guards it; who has seen done closed needs none to read the first two.
type introspected struct {
	permission Permission
	err        error
	done       chan struct{}

	asking bool
	until  time.Time // when it is too old
}

// NewIntrospection returns an Introspection that connects to nothing before it is
// first asked.
func NewIntrospection(config IntrospectionConfig) *Introspection {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	transport := newTransport(nil)
	transport.DisableKeepAlives = false // there may be hundreds of questions a second
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = introspectionConns, introspectionConns
	transport.IdleConnTimeout = 10 * time.Second
	return &Introspection{
		config:  config,
		ory:     newOryConfiguration(strings.TrimRight(config.BaseURL, "/"), transport),
		answers: make(map[[sha256.Size]byte]*introspected),
	}
}

// Permission says what a token is good for, or with an [Error] why Ory cannot be asked.
// A caller who leaves changes nothing for others who wait for the same answer.
func (i *Introspection) Permission(ctx context.Context, token string) (Permission, error) {
	key := sha256.Sum256([]byte(token))
	i.mu.Lock()
	a := i.answers[key]
	if a == nil || !a.asking && !time.Now().Before(a.until) {
		if i.asking >= questionsLimit {
			i.mu.Unlock()
			return NotPermitted, Fail(ReasonUnavailable, "too many questions are under way")
		}
		a = &introspected{asking: true, done: make(chan struct{})}
		i.answers[key] = a
		i.asking++
		go i.answer(key, a, token) //nolint:gosec // others wait for it, too: it does not end with this request
	}
	i.mu.Unlock()
	select {
	case <-a.done:
		return a.permission, a.err
	case <-ctx.Done():
		return NotPermitted, classify(ctx.Err())
	}
}

// answer asks, keeps the answer, and tells who waits for it.
func (i *Introspection) answer(key [sha256.Size]byte, a *introspected, token string) {
	defer close(a.done)
	ctx, cancel := context.WithTimeout(context.Background(), i.config.Timeout)
	defer cancel()
	permission, until, err := i.try(ctx, token)

	i.mu.Lock()
	i.asking--
	a.permission, a.err, a.asking, a.until = permission, err, false, until
	if err != nil || !i.room(a) {
		delete(i.answers, key)
	}
	before, now := i.trouble, ReasonOf(err)
	i.trouble = now
	i.mu.Unlock()

	switch {
	case now != "" && now != before:
		i.config.Log.Warn("Ory cannot be asked about tokens", "reason", string(now), "detail", classify(err).Detail)
	case now == "" && before != "":
		i.config.Log.Info("Ory can be asked about tokens again")
	}
}

// try introspects. A panic is an error: this goroutine is nobody's who could recover it.
func (i *Introspection) try(ctx context.Context, token string) (permission Permission, until time.Time, err error) {
	defer func() {
		if recover() != nil {
			permission, err = NotPermitted, Fail(ReasonBadResponse, "reading the answer panicked")
		}
	}()
	return i.introspect(ctx, token, time.Now())
}

// room makes room for an answer, and reports whether there is any. One that refuses
// pushes no other out: anybody can have as many as he likes of them. The lock is held.
func (i *Introspection) room(a *introspected) bool {
	if len(i.answers) <= answersLimit {
		return true
	}
	if now := time.Now(); now.Sub(i.swept) >= time.Second {
		i.swept = now
		for key, old := range i.answers {
			if !old.asking && !now.Before(old.until) {
				delete(i.answers, key)
			}
		}
	}
	if len(i.answers) <= answersLimit || a.permission != Permitted {
		return len(i.answers) <= answersLimit
	}
	for key, old := range i.answers {
		if !old.asking && old != a {
			delete(i.answers, key)
			break
		}
	}
	return true
}

// introspect asks about a token, and returns until when the answer holds.
func (i *Introspection) introspect(ctx context.Context, token string, asked time.Time) (Permission, time.Time, error) {
	t, err := i.ask(ctx, token)
	if err != nil {
		return NotPermitted, asked, err
	}
	refused := asked.Add(refusedFor)
	switch {
	case !t.Active:
		// A Hydra that has lost its database knows no token and says so with a 200. Its
		// no counts only while it is ready: a sender who is refused does not try again,
		// and a good event would be lost.
		return NotPermitted, refused, checkReady(ctx, i.ory.HTTPClient, i.ory.Servers[0].URL+"/health/ready")
	case t.GetTokenUse() != "" && t.GetTokenUse() != "access_token", // a refresh token is introspected, too
		len(t.Aud) > 0 && !slices.Contains(t.Aud, i.config.Audience):
		return NotPermitted, refused, nil
	case !slices.Contains(strings.Fields(t.GetScope()), i.config.Scope):
		return LacksScope, refused, nil
	}
	until := asked.Add(grantedFor)
	if end := time.Unix(t.GetExp(), 0); t.Exp != nil && end.Before(until) {
		until = end
	}
	return Permitted, until, nil
}

// ask sends the request of client-go's OAuth2API.IntrospectOAuth2Token, from its
// configuration, and decodes its answer. A test compares the two. The call itself is
// not linked: with it come all of its API's calls, 4.4 MB of binary.
//
// It asks for no scope: Hydra would say of a token without it that it is inactive.
func (i *Introspection) ask(ctx context.Context, token string) (*ory.IntrospectedOAuth2Token, error) {
	server, err := i.ory.ServerURLWithContext(ctx, "OAuth2APIService.IntrospectOAuth2Token")
	if err != nil {
		return nil, Fail(ReasonMisconfigured, "ORY_BASE_URL: no request can be made of it")
	}
	form := strings.NewReader(url.Values{"token": {token}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/admin/oauth2/introspect", form)
	if err != nil { // its text quotes the URL
		return nil, Fail(ReasonMisconfigured, "ORY_BASE_URL: no request can be made of it")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", i.ory.UserAgent)
	// Not sent, but net/http then asks once more where a kept connection turns out to be
	// closed: a question changes nothing.
	req.Header["X-Idempotency-Key"] = nil
	resp, err := i.ory.HTTPClient.Do(req)
	if err != nil {
		return nil, classify(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, classify(err)
	}
	answer := new(ory.IntrospectedOAuth2Token)
	if json.Unmarshal(body, answer) != nil {
		return nil, Fail(ReasonBadResponse, "introspection did not answer as Ory does")
	}
	return answer, nil
}
