package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"coffeebuddy/internal/fault"

	"github.com/hashicorp/vault/api"
)

const (
	// renewTimeout is the timeout of one renewal. The renewal runs in the background of a check,
	// whose timeout may be shorter.
	renewTimeout = 5 * time.Second

	// renewPause is the shortest pause after a failed renewal. It doubles with each further one, up
	// to a tenth of the token's remaining TTL.
	renewPause = time.Second
)

// A lease is what Vault reports about a token's lifetime.
type lease struct {
	ttl       time.Duration // remaining TTL, 0 if it never expires
	full      time.Duration // TTL after a renewal
	renewable bool
}

// A renewal holds a token's expiry and what is done about it: the token is renewed at two thirds of
// its TTL. Each renewal is an audited write in Vault. The zero value is for a token that is not
// known yet.
type renewal struct {
	token   string
	full    time.Duration // TTL after its issue or a renewal
	expires time.Time     // zero: never, or unknown
	due     time.Time     // of the next renewal; zero: none
	pause   time.Duration // after the last renewal, if it failed
	why     string        // why it will expire, "" if it will be renewed
	warnAt  time.Time     // when to log the warning
	warned  bool          // the warning was logged
}

// observed returns the renewal state after a lookup that began at asked. A token that others renew
// is not due until its new expiry approaches.
func (r renewal) observed(token string, l lease, asked time.Time) renewal {
	if token != r.token {
		r = renewal{token: token, full: l.full}
	}
	return r.expiring(l, max(r.full, l.ttl), asked)
}

// succeeded returns the state after a renewal that returned l. If it granted less than the one
// before, the max TTL is near; if the expiry did not move, no further renewal is possible.
func (r renewal) succeeded(token string, l lease, asked time.Time) renewal {
	if token != r.token {
		return r
	}
	if l.ttl <= 0 {
		r.due = time.Time{}
		return r
	}
	before := r
	r = r.expiring(l, l.ttl, asked)
	if l.ttl < before.full-before.slack() {
		r.why, r.warnAt = "it is near its max TTL", asked
	}
	if !r.expires.After(before.expires.Add(before.slack())) {
		r.due = time.Time{}
	}
	return r
}

// expiring returns the state of a token with the remaining lifetime l and the TTL full after a
// renewal.
func (r renewal) expiring(l lease, full time.Duration, asked time.Time) renewal {
	if l.ttl <= 0 {
		return renewal{token: r.token}
	}
	before := r
	r.full, r.expires = full, asked.Add(l.ttl)
	if r.expires.Sub(before.expires).Abs() <= before.slack() {
		return r // the expiry is already known
	}
	// A small random delay, so that replicas that share a token do not all renew it: the others see
	// that it was renewed.
	r.due = r.expires.Add(-full/3 + rand.N(full/20+1)) //nolint:gosec // no secret
	r.pause, r.why, r.warned = 0, "", false
	if !l.renewable {
		r.due, r.why, r.warnAt = time.Time{}, "it is not renewable", r.expires.Add(-full/3)
	}
	return r
}

// slack is the difference by which two responses may describe the same expiry: Vault truncates TTLs
// to seconds.
func (r renewal) slack() time.Duration { return min(2*time.Second, r.full/4) }

// failed returns the state after a failed renewal. A rate limit says nothing about the token: it
// only delays the renewal.
func (r renewal) failed(token string, err error, now time.Time) renewal {
	if token != r.token {
		return r
	}
	r.pause = max(renewPause, min(2*r.pause, r.expires.Sub(now)/10))
	r.due = now.Add(r.pause*3/4 + rand.N(r.pause/2)) //nolint:gosec // no secret
	if !errors.Is(err, errLater) {
		r.why, r.warnAt = "a renewal failed: "+string(fault.ReasonOf(err)), now
	}
	return r
}

// isDue reports whether the token should be renewed. An expired token cannot be.
func (r renewal) isDue(now time.Time) bool {
	return !r.due.IsZero() && !now.Before(r.due) && now.Before(r.expires)
}

// ending reports whether the token will expire and should be replaced now.
func (r renewal) ending(now time.Time) bool {
	return r.why != "" && !now.Before(r.warnAt)
}

// warns reports whether the single warning before the token expires is due.
func (r renewal) warns(now time.Time) bool {
	return !r.warned && r.ending(now) && now.Before(r.expires)
}

// TokenExpiry returns when the token expires. It is the zero time if the token never expires, or
// has not been looked up yet.
func (c *Client) TokenExpiry() time.Time {
	if c == nil {
		return time.Time{}
	}
	c.state.Lock()
	defer c.state.Unlock()
	return c.renewal.expires
}

// expired reports whether a token is known to have expired.
func (c *Client) expired(token string, now time.Time) bool {
	c.state.Lock()
	defer c.state.Unlock()
	return c.renewal.token == token && !c.renewal.expires.IsZero() && !now.Before(c.renewal.expires)
}

// loggedIn records the lifetime of a new token.
func (c *Client) loggedIn(token string, l lease, asked time.Time) {
	c.state.Lock()
	defer c.state.Unlock()
	c.renewal = renewal{}.observed(token, l, asked)
}

// maintain starts what is due in the background of a use: a renewal of the token, or a new login
// before the token expires. Without a login it logs a warning before the expiry.
func (c *Client) maintain(client *api.Client, token string) {
	now := time.Now()
	c.state.Lock()
	r, current := c.renewal, !c.closed && c.renewal.token == token
	if current && r.isDue(now) {
		c.renew(client, token)
	}
	c.state.Unlock()
	switch {
	case !current:
	case c.login == nil:
		c.warn(now)
	case r.ending(now):
		c.login.replace()
	}
}

// renew renews the token once, in the background of the use that found it due, and schedules the
// next renewal. The caller holds the lock: a renewal that has just ended is not due any more.
func (c *Client) renew(client *api.Client, token string) {
	var (
		renewed lease
		asked   = time.Now()
	)
	c.renews.Start(context.Background(), func(ctx context.Context) (err error) {
		renewed, err = renewToken(ctx, client)
		return err
	}, func(err error) {
		c.state.Lock()
		if err == nil {
			c.renewal = c.renewal.succeeded(token, renewed, asked)
		} else {
			c.renewal = c.renewal.failed(token, err, time.Now())
		}
		c.state.Unlock()
		if c.login == nil {
			c.warn(time.Now())
		}
	})
}

// warn logs once that the token is about to expire.
func (c *Client) warn(now time.Time) {
	c.state.Lock()
	r := c.renewal
	warns := r.warns(now)
	c.renewal.warned = r.warned || warns
	c.state.Unlock()
	if warns {
		c.config.Log.Warn("the Vault token expires soon", "expires_at", r.expires.UTC().Truncate(time.Second), "why", r.why)
	}
}

// renewToken renews the client's token by Vault's default increment.
func renewToken(ctx context.Context, client *api.Client) (lease, error) {
	secret, err := client.Auth().Token().RenewSelfWithContext(ctx, 0)
	if answered, ok := errors.AsType[*api.ResponseError](err); ok { // its text quotes the URL and the body
		if answered.StatusCode == http.StatusForbidden {
			return lease{}, fault.New(fault.Denied, "Vault refuses the token's renewal of itself")
		}
		return lease{}, response{status: answered.StatusCode}.failure()
	}
	if err != nil {
		return lease{}, fault.Of(err)
	}
	if secret == nil || secret.Auth == nil {
		return lease{}, fault.New(fault.BadResponse, "renew-self did not answer as Vault does")
	}
	ttl := seconds(int64(secret.Auth.LeaseDuration))
	return lease{ttl: ttl, full: ttl, renewable: secret.Auth.Renewable}, nil
}
