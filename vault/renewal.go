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
	// renewTimeout is the deadline of one renewal. It runs beside the check, whose
	// deadline may be shorter.
	renewTimeout = 5 * time.Second

	// renewPause is the shortest pause after a renewal that failed. It doubles with
	// each further one, up to a tenth of what the token has left.
	renewPause = time.Second
)

// A lease is what Vault says of a token's life.
type lease struct {
	ttl       time.Duration // what is left of it, 0 if it never ends
	full      time.Duration // what a renewal gives it
	renewable bool
}

// A renewal is when a token expires, and what is done about it: at two thirds of its
// TTL it is renewed. Each renewal is an audited write on Vault's side. The zero value
// is that of a token that is not known yet.
type renewal struct {
	token   string
	full    time.Duration // what it lives from its issue, or from a renewal on
	expires time.Time     // zero: never, or not known
	due     time.Time     // the next renewal; zero: none
	pause   time.Duration // after the last renewal, if that failed
	why     string        // why it will expire, "" if it is to be renewed
	warnAt  time.Time     // when to say so
	warned  bool          // it was said
}

// saw returns the renewal of a token after a lookup that began at asked. A token that
// others renew is not due before its new end comes near.
func (r renewal) saw(token string, l lease, asked time.Time) renewal {
	if token != r.token {
		r = renewal{token: token, full: l.full}
	}
	return r.ends(l, max(r.full, l.ttl), asked)
}

// succeeded returns the renewal after one that gave l. One that gave less than the one
// before says that the max TTL is near; one that does not move the end was the last.
func (r renewal) succeeded(token string, l lease, asked time.Time) renewal {
	if token != r.token {
		return r
	}
	if l.ttl <= 0 {
		r.due = time.Time{}
		return r
	}
	before := r
	r = r.ends(l, l.ttl, asked)
	if l.ttl < before.full-before.slack() {
		r.why, r.warnAt = "it is near its max TTL", asked
	}
	if !r.expires.After(before.expires.Add(before.slack())) {
		r.due = time.Time{}
	}
	return r
}

// ends returns the renewal of a token that has l left, and lives full from a renewal on.
func (r renewal) ends(l lease, full time.Duration, asked time.Time) renewal {
	if l.ttl <= 0 {
		return renewal{token: r.token}
	}
	before := r
	r.full, r.expires = full, asked.Add(l.ttl)
	if r.expires.Sub(before.expires).Abs() <= before.slack() {
		return r // the end that was known
	}
	// A little later by chance, so that replicas with one token do not all renew it:
	// the others see that it was.
	r.due = r.expires.Add(-full/3 + rand.N(full/20+1)) //nolint:gosec // no secret
	r.pause, r.why, r.warned = 0, "", false
	if !l.renewable {
		r.due, r.why, r.warnAt = time.Time{}, "it is not renewable", r.expires.Add(-full/3)
	}
	return r
}

// slack is by how much two answers may differ on one end: Vault cuts TTLs to seconds.
func (r renewal) slack() time.Duration { return min(2*time.Second, r.full/4) }

// failed returns the renewal after one that failed with an error. A rate limit says nothing
// of the token: the renewal only comes later.
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

// isDue reports whether the token should be renewed. One that has expired cannot be.
func (r renewal) isDue(now time.Time) bool {
	return !r.due.IsZero() && !now.Before(r.due) && now.Before(r.expires)
}

// ending reports whether it will expire, and it is time to do something about that.
func (r renewal) ending(now time.Time) bool {
	return r.why != "" && !now.Before(r.warnAt)
}

// warns reports whether it is time for the one warning before the token expires.
func (r renewal) warns(now time.Time) bool {
	return !r.warned && r.ending(now) && now.Before(r.expires)
}

// TokenExpiry returns when the token expires, the zero time for never and as long as
// it has not been looked up.
func (c *Client) TokenExpiry() time.Time {
	if c == nil {
		return time.Time{}
	}
	c.state.Lock()
	defer c.state.Unlock()
	return c.renewal.expires
}

// expired reports whether a token has expired, as far as is known.
func (c *Client) expired(token string, now time.Time) bool {
	c.state.Lock()
	defer c.state.Unlock()
	return c.renewal.token == token && !c.renewal.expires.IsZero() && !now.Before(c.renewal.expires)
}

// loggedIn takes in the life of a new token.
func (c *Client) loggedIn(token string, l lease, asked time.Time) {
	c.state.Lock()
	defer c.state.Unlock()
	c.renewal = renewal{}.saw(token, l, asked)
}

// tend starts what is due beside a use: the token's renewal, or a new login before the
// token comes to its end. Without a login it warns of that end.
func (c *Client) tend(client *api.Client, token string) {
	now := time.Now()
	c.state.Lock()
	r, closed := c.renewal, c.closed
	c.state.Unlock()
	if closed || r.token != token {
		return
	}
	if r.isDue(now) {
		c.renew(client, token)
	}
	switch {
	case c.login == nil:
		c.warn(now)
	case r.ending(now):
		c.login.replace()
	}
}

// renew renews the token once, beside whoever found it due, and decides when that is
// done again.
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

// warn logs, once, that the token expires.
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

// renewToken renews the client's token for what Vault gives it by default.
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
