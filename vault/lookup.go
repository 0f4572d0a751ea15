package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"coffeebuddy/internal/fault"

	"github.com/hashicorp/vault/api"
)

const (
	// lookupEvery is how long a successful lookup of the token is believed. Each
	// lookup is an audited write on Vault's side.
	lookupEvery = 30 * time.Second

	// firstPause is the pause after the first lookup or login that was denied, or that a
	// rate limit refused; it doubles with each further one up to lookupEvery.
	firstPause = time.Second

	// retryAfterMax is the longest Retry-After that is kept to.
	retryAfterMax = time.Minute

	// doubtMax is the longest pause between two lookups of a token with limited uses that
	// a 403 on another use has brought about: each spends a use.
	doubtMax = 10 * time.Minute
)

// longer returns the pause after one more of what is asked again in vain: firstPause at
// first, then double, up to the longest.
func longer(pause, longest time.Duration) time.Duration {
	return min(max(2*pause, firstPause), longest)
}

// lookup is what the last lookup of the token said, and when the next is due.
type lookup struct {
	token string
	err   error         // of the last lookup; a denial stands until the next
	good  bool          // a lookup has succeeded
	at    time.Time     // when the last lookup ended
	due   time.Time     // when the next lookup may go out
	pause time.Duration // the pause after the last denial or rate limit, 0 if there was none

	limited bool          // the token has limited uses: it is looked up again only in doubt
	doubted bool          // a 403 on another use has brought the next lookup forward
	doubt   time.Duration // the pause after the last lookup that was in doubt and succeeded
}

// isDue reports whether the token should be looked up.
func (l lookup) isDue(now time.Time) bool {
	return !now.Before(l.due) && (!l.limited || l.doubted)
}

// doubts returns the lookup after a 403 on another use of the token. It may be that the
// token is dead, or only that its policies do not allow this use.
func (l lookup) doubts() lookup {
	if l.err != nil || !l.good || l.doubted {
		return l
	}
	soon := l.at.Add(l.doubt)
	if l.limited || soon.Before(l.due) {
		l.due = soon
	}
	l.doubted = true
	return l
}

// succeeded returns the lookup after one that found a token with uses, 0 for no limit.
func (l lookup) succeeded(uses int, now time.Time) lookup {
	next := lookup{token: l.token, good: true, at: now, due: now.Add(lookupEvery), limited: uses != 0}
	if l.doubted {
		longest := lookupEvery
		if next.limited {
			longest = doubtMax
		}
		next.doubt = longer(l.doubt, longest)
	}
	return next
}

// failed returns the lookup after one that failed. A rate limit says nothing of a token
// that was good: the last lookup stands.
func (l lookup) failed(err error, retryAfter time.Duration, limit bool, now time.Time) lookup {
	denied := fault.ReasonOf(err) == fault.Denied
	if denied || limit {
		l.pause = longer(l.pause, lookupEvery)
		l.due = now.Add(max(l.pause, retryAfter))
	} else {
		l.due = now // says nothing of the token: again at the next check
	}
	l.at = now
	if limit && l.good && l.err == nil {
		return l
	}
	l.err, l.good = err, l.good && !denied
	return l
}

// Identify reports whether there is a token to ask with, or a login to get one by. It
// asks nobody.
func (c *Client) Identify(ctx context.Context) error {
	clients, err := c.clients()
	if err != nil {
		return err
	}
	if c.login != nil {
		return c.login.possible()
	}
	_, err = c.identify(ctx, clients.identified)
	return err
}

// Verify says whether Vault knows the token, from auth/token/lookup-self, which it asks
// at most every 30 s, and sooner where Vault has answered a use of the token with 403.
// After a denial it asks again with a pause that grows from 1 s to 30 s, and at once when
// the token has changed, as it does by another login.
func (c *Client) Verify(ctx context.Context) error {
	clients, err := c.clients()
	if err != nil {
		return err
	}
	for again := false; ; again = true {
		token, err := c.identify(ctx, clients.identified)
		if err != nil {
			return c.heal(err)
		}
		err = c.verify(ctx, clients.identified, token)
		if c.login != nil && !again && fault.ReasonOf(err) == fault.Denied {
			continue
		}
		if err == nil {
			c.tend(clients.identified, token)
		}
		return c.heal(err)
	}
}

// verify looks the token up if that is due, one caller at a time.
func (c *Client) verify(ctx context.Context, client *api.Client, token string) error {
	select {
	case c.looking <- struct{}{}:
		defer func() { <-c.looking }()
	case <-ctx.Done():
		return fault.Of(ctx.Err())
	}
	c.state.Lock()
	if token != c.lookup.token {
		c.lookup = lookup{token: token}
	}
	last := c.lookup
	c.state.Unlock()
	if !last.isDue(time.Now()) {
		return last.err
	}

	asked := time.Now()
	found, err := lookupToken(ctx, client)
	if err == nil {
		found.lease.renewable = found.lease.renewable && found.uses == 0 // a renewal spends a use
		c.state.Lock()
		c.renewal = c.renewal.saw(token, found.lease, asked)
		c.state.Unlock()
	}
	c.state.Lock()
	if err == nil {
		c.lookup = c.lookup.succeeded(found.uses, time.Now())
	} else {
		c.lookup = c.lookup.failed(err, found.retryAfter, found.rateLimited, time.Now())
	}
	next := c.lookup
	c.state.Unlock()
	if c.login != nil {
		c.login.lookedUp(token, next.err)
	}
	if next.limited && !last.limited {
		c.config.Log.Warn("the Vault token has a limited number of uses: it is looked up again only where Vault refuses a use of it")
	}
	return next.err
}

// doubt is called for each 403 that Vault returns for a use of a token.
func (c *Client) doubt(token string) {
	c.state.Lock()
	defer c.state.Unlock()
	if token == c.lookup.token {
		c.lookup = c.lookup.doubts()
	}
}

// found is what a lookup of a token says.
type found struct {
	lease lease
	uses  int // num_uses, 0 for a token without limit

	rateLimited bool
	retryAfter  time.Duration
}

// lookupToken looks the client's token up.
func lookupToken(ctx context.Context, client *api.Client) (found, error) {
	resp, err := read(ctx, client, "auth/token/lookup-self", nil)
	switch {
	case err != nil:
		return found{}, err
	case resp.status == http.StatusForbidden:
		return found{}, fault.New(fault.Denied, "Vault refuses the token's lookup of itself")
	case resp.saysNothing():
		return found{rateLimited: true, retryAfter: resp.retryAfter()}, fault.Status(resp.status)
	case resp.status == http.StatusInternalServerError:
		return found{}, fault.New(fault.Unavailable, "status 500 of lookup-self: Vault fails, or it cannot read the token, such as one of another Vault's namespace")
	case resp.status != http.StatusOK:
		return found{}, fault.Status(resp.status)
	}
	var answer struct {
		Data struct {
			ID          *string         `json:"id"`
			Policies    []any           `json:"policies"`
			TTL         *int64          `json:"ttl"`
			ExpireTime  json.RawMessage `json:"expire_time"`
			CreationTTL int64           `json:"creation_ttl"`
			Renewable   bool            `json:"renewable"`
			NumUses     *int            `json:"num_uses"`
		} `json:"data"`
	}
	err = json.Unmarshal(resp.body, &answer)
	data := answer.Data
	if err != nil || data.ID == nil && data.Policies == nil && data.TTL == nil && data.NumUses == nil {
		return found{}, fault.New(fault.BadResponse, "lookup-self did not answer as Vault does")
	}
	f := found{lease: lease{full: seconds(data.CreationTTL), renewable: data.Renewable}}
	if data.NumUses != nil {
		f.uses = *data.NumUses
	}
	if data.TTL != nil {
		f.lease.ttl = seconds(*data.TTL)
	}
	// In its last second a token has a TTL of 0, as one that never expires has.
	ends := data.ExpireTime != nil && string(data.ExpireTime) != "null"
	if f.lease.ttl == 0 && ends {
		f.lease.ttl = time.Millisecond
	}
	return f, nil
}

// seconds returns a TTL of Vault's. None is over a century, which a Duration holds.
func seconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * 3600
	return time.Duration(min(max(n, 0), century)) * time.Second
}
