package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"
	"coffeebuddy/internal/transport"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// loginTimeout is the timeout of one login. For the kubernetes method, Vault calls the API
	// server during the login. The login runs in the background of a check, whose timeout may be
	// shorter.
	loginTimeout = 5 * time.Second

	// revokeTimeout is how long revoking the login's token may delay the shutdown.
	revokeTimeout = 2 * time.Second
)

// A Login gets a token through a role of Vault's auth methods kubernetes or jwt, which take the
// same request. The zero value means no login.
type Login struct {
	Role    string // no default
	Mount   string // mount path of the auth method; "" means kubernetes
	JWTFile string // file of the service account token, read on each login; "" means /var/run/secrets/vault/token
}

// logins is a [TokenSource]. It keeps the token of the last login, and logs in when there is no
// token, when Vault has denied it, when it has expired, and before it expires.
type logins struct {
	config Login
	client *Client
	work   single.Work
	count  *prometheus.CounterVec

	mu        sync.Mutex
	token     string // of the last login, "" for none
	at        time.Time
	revocable bool  // a service token
	refused   bool  // Vault has denied it
	err       error // of the last failed login, or of the denial
	next      time.Time
	pause     time.Duration // after the last login that failed, or whose token was denied
	failing   fault.Reason  // the reason that was logged
	closed    bool
}

func newLogins(config Login, c *Client) *logins {
	if config.Mount == "" {
		config.Mount = "kubernetes"
	}
	if config.JWTFile == "" {
		config.JWTFile = "/var/run/secrets/vault/token"
	}
	l := &logins{
		config: config, client: c,
		work: single.Work{Name: "login to Vault", Timeout: loginTimeout, Log: c.config.Log, OnPanic: c.config.OnPanic},
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffeebuddy_vault_logins_total",
			Help: "Logins to Vault, by outcome.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"done", "denied", "failed"} {
		l.count.WithLabelValues(outcome)
	}
	return l
}

// possible returns nil if there is a token, or a file to log in with.
func (l *logins) possible() error {
	l.mu.Lock()
	token := l.token
	l.mu.Unlock()
	if token != "" {
		return nil
	}
	_, err := l.jwt()
	return err
}

// source returns the current token, and logs in if there is none. It waits for a login until ctx
// ends.
func (l *logins) source(ctx context.Context) (string, error) {
	l.mu.Lock()
	now := time.Now()
	if l.good(now) || l.closed {
		defer l.mu.Unlock()
		return l.token, nil
	}
	if l.work.Running() == nil && now.Before(l.next) {
		defer l.mu.Unlock()
		return "", l.err
	}
	ended := l.start(ctx)
	l.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
		return "", fault.Of(ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.good(time.Now()) {
		return l.token, nil
	}
	if l.err == nil {
		return "", fault.New(fault.Denied, "the token of the login has ended already")
	}
	return "", l.err
}

// good reports whether the token can be used at the given time. The caller holds the lock.
func (l *logins) good(now time.Time) bool {
	return l.token != "" && !l.refused && !l.client.expired(l.token, now)
}

// replace starts a login in the background of a use of a token that is about to expire.
func (l *logins) replace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && l.work.Running() == nil && !time.Now().Before(l.next) {
		l.start(context.Background())
	}
}

// lookedUp processes the result of a token lookup. After a denial the next login is delayed by a
// growing pause, since its token may be denied too.
func (l *logins) lookedUp(token string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case token != l.token:
	case err == nil && l.failing == "":
		l.pause = 0
	case err != nil && fault.ReasonOf(err) == fault.Denied && !l.refused:
		if time.Since(l.at) >= lookupEvery {
			l.pause = 0 // it was valid for a while
		}
		l.refused, l.err = true, err
		l.next = time.Now().Add(l.pause) // immediately the first time
		l.pause = longer(l.pause, lookupEvery)
	}
}

// start begins a login. The caller holds the lock.
func (l *logins) start(ctx context.Context) (ended <-chan struct{}) {
	var (
		got   loggedIn
		asked time.Time
		wrong bool // no request was sent
	)
	return l.work.Start(ctx, func(ctx context.Context) error {
		jwt, err := l.jwt()
		if err != nil {
			wrong = true
			return err
		}
		asked = time.Now()
		got, err = l.client.logIn(ctx, l.config, jwt)
		return err
	}, func(err error) {
		if err == nil {
			l.client.loggedIn(got.token, got.lease, asked)
		}
		l.mu.Lock()
		before, now := l.failing, time.Now()
		l.failing = fault.ReasonOf(err)
		if err == nil {
			l.token, l.at, l.revocable, l.refused, l.err = got.token, now, got.revocable, false, nil
		} else {
			l.failed(err, got.retryAfter, got.rateLimited, now)
		}
		after := l.failing
		l.mu.Unlock()
		l.tell(err, before, after, wrong)
	})
}

// failed decides when the next login may be sent. Only a denial or a rate limit delays it beyond the
// end of a good token. The caller holds the lock.
func (l *logins) failed(err error, retryAfter time.Duration, limit bool, now time.Time) {
	l.err = err
	delays := limit || fault.ReasonOf(err) == fault.Denied
	if !delays && !l.good(now) {
		l.next = now // retry with the next check
		return
	}
	l.pause = longer(l.pause, lookupEvery)
	l.next = now.Add(max(l.pause, retryAfter))
	if end := l.client.TokenExpiry(); !delays && !end.IsZero() && l.next.After(end) {
		l.next = end
	}
}

// tell counts and logs the result of a login.
func (l *logins) tell(err error, before, after fault.Reason, wrong bool) {
	outcome := "done"
	switch {
	case after == fault.Denied:
		outcome = "denied"
	case err != nil:
		outcome = "failed"
	}
	if !wrong {
		l.count.WithLabelValues(outcome).Inc()
	}
	log := l.client.config.Log.With("role", l.config.Role, "mount", l.config.Mount)
	switch {
	case err == nil:
		log.Info("logged in to Vault")
	case after != before && outcome == "denied":
		log.Warn("Vault refuses the login", "reason", string(after), "detail", fault.Of(err).Detail)
	case after != before:
		log.Warn("the login to Vault failed", "reason", string(after), "detail", fault.Of(err).Detail)
	}
}

// jwt returns the current service account token.
func (l *logins) jwt() (string, error) {
	text, err := readFile(l.config.JWTFile, tokenLimit)
	if err != nil {
		return "", fault.New(fault.Misconfigured, "VAULT_JWT_FILE: "+err.Error())
	}
	jwt := strings.TrimSpace(string(text))
	if !isJWT(jwt) {
		return "", fault.New(fault.Misconfigured, "VAULT_JWT_FILE: the file must hold one JWT, as Kubernetes projects it")
	}
	return jwt, nil
}

// close revokes the login's token, and that of a login under way, before ctx ends. No login follows.
func (l *logins) close(ctx context.Context, clients *clients) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.revoke(ctx, clients) // a login that hangs does not prevent it
	l.work.Wait(ctx)
	l.revoke(ctx, clients)
}

// revoke revokes the token once.
func (l *logins) revoke(ctx context.Context, clients *clients) {
	l.mu.Lock()
	token, revocable := l.token, l.revocable && l.good(time.Now())
	l.revocable = false
	l.mu.Unlock()
	if revocable {
		_, _ = write(ctx, clients.with(token), "auth/token/revoke-self", struct{}{}) // the token expires anyway
	}
}

// loggedIn is the response to a login.
type loggedIn struct {
	token     string
	lease     lease
	revocable bool

	rateLimited bool
	retryAfter  time.Duration
}

// logIn sends a login, without a token.
func (c *Client) logIn(ctx context.Context, config Login, jwt string) (loggedIn, error) {
	clients, err := c.clients()
	if err != nil {
		return loggedIn{}, err
	}
	client := clients.anonymous
	if c.config.Namespace != "" {
		client = client.WithNamespace(c.config.Namespace)
	}
	resp, err := write(ctx, client, "auth/"+config.Mount+"/login", map[string]string{"role": config.Role, "jwt": jwt})
	switch {
	case err != nil:
		return loggedIn{}, c.heal(err)
	case resp.saysNothing():
		return loggedIn{rateLimited: true, retryAfter: resp.retryAfter()}, fault.Status(resp.status)
	case resp.status == http.StatusBadRequest, resp.status == http.StatusForbidden, resp.status == http.StatusNotFound:
		return loggedIn{}, fault.New(fault.Denied, loginHint(resp))
	case resp.status != http.StatusOK:
		return loggedIn{}, fault.Status(resp.status)
	}
	var answer struct {
		Auth *struct {
			Token     string          `json:"client_token"`
			Type      string          `json:"token_type"`
			TTL       int64           `json:"lease_duration"`
			Renewable bool            `json:"renewable"`
			Uses      int             `json:"num_uses"`
			MFA       json.RawMessage `json:"mfa_requirement"`
		} `json:"auth"`
	}
	err = json.Unmarshal(resp.body, &answer)
	auth := answer.Auth
	switch {
	case err != nil || auth == nil:
		return loggedIn{}, fault.New(fault.BadResponse, "the login was not answered as Vault does")
	case auth.MFA != nil && string(auth.MFA) != "null":
		return loggedIn{}, fault.New(fault.Denied, "the login asks for a second factor, which a function has not")
	case auth.Token == "" || !transport.IsVisible(auth.Token):
		return loggedIn{}, fault.New(fault.BadResponse, "the login was not answered as Vault does")
	}
	ttl := seconds(auth.TTL)
	return loggedIn{
		token:     auth.Token,
		lease:     lease{ttl: ttl, full: ttl, renewable: auth.Renewable && auth.Uses == 0},
		revocable: auth.Type != "batch",
	}, nil
}

// loginHint returns the most likely cause of a refused login, in our own words.
func loginHint(resp response) string {
	for _, hint := range []struct{ says, means string }{
		{"invalid role name", "Vault knows no such role"},
		{"could not be found", "Vault knows no such role"},
		{"service account name not authorized", "the role is not for this service account"},
		{"namespace not authorized", "the role is not for this namespace"},
		{"invalid audience", "the service account token is not for the audience that the role asks for"},
		{"audience claim", "the service account token is not for the audience that the role asks for"},
		{"expired", "the service account token has expired: compare the clocks, and see that it is projected anew"},
		{"not yet valid", "the service account token is not valid yet: compare the clocks"},
		{"no handler for route", "there is no auth method at the mount"},
		{"unsupported path", "there is no auth method at the mount"},
		{"missing client token", "there is no auth method at the mount"},
		{"not found in token", "a claim that the role binds is not in the service account token"},
		{"claim", "a claim of the service account token is not what the role asks for"},
	} {
		if resp.says(hint.says) {
			return hint.means
		}
	}
	return "Vault does not say why: there may be no auth method at the mount, or it does not accept the service account token, or this address"
}
