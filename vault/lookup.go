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
	// lookupEvery is how long a successful token lookup is cached. Each lookup is an audited write
	// in Vault.
	lookupEvery = 30 * time.Second

	// lookupTimeout is the timeout of a lookup that follows a 403 on another use. Checks wait for it,
	// whatever the deadline of that use is.
	lookupTimeout = 2 * time.Second

	// firstPause is the pause after the first lookup or login that was denied or rate limited. It
	// doubles with each further one, up to lookupEvery.
	firstPause = time.Second

	// retryAfterMax is the longest Retry-After that is honored.
	retryAfterMax = time.Minute

	// doubtMax is the longest pause between two lookups of a token with limited uses that follow a
	// 403 on another use: each lookup uses up one of them.
	doubtMax = 10 * time.Minute
)

// longer returns the next pause between futile attempts: firstPause at first, then doubled each
// time, up to the longest.
func longer(pause, longest time.Duration) time.Duration {
	return min(max(2*pause, firstPause), longest)
}

// lookup is the result of the last token lookup, and when the next one is due.
type lookup struct {
	token string
	err   error         // of the last lookup; a denial stands until the next one
	good  bool          // a lookup has succeeded
	at    time.Time     // when the last lookup ended
	due   time.Time     // earliest time of the next lookup
	pause time.Duration // after the last denial or rate limit, 0 if there was none

	limited bool          // the token has limited uses, so only a 403 causes another lookup
	doubted bool          // a 403 on another use brought the next lookup forward
	doubt   time.Duration // after the last lookup that followed a 403 and succeeded
}

// isDue reports whether the token is due for a lookup.
func (l lookup) isDue(now time.Time) bool {
	return !now.Before(l.due) && (!l.limited || l.doubted)
}

// doubts returns the lookup state after a 403 on another use of the token. The token may be
// invalid, or its policies may just not allow that use.
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

// succeeded returns the state after a lookup that found a token with this number of uses, 0 for no
// limit.
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

// failed returns the state after a failed lookup. A rate limit says nothing about a token that was
// valid: the last result stands.
func (l lookup) failed(err error, retryAfter time.Duration, limit bool, now time.Time) lookup {
	denied := fault.ReasonOf(err) == fault.Denied
	if denied || limit {
		l.pause = longer(l.pause, lookupEvery)
		l.due = now.Add(max(l.pause, retryAfter))
	} else {
		l.due = now // it says nothing about the token: retry with the next check
	}
	l.at = now
	if limit && l.good && l.err == nil {
		return l
	}
	l.err, l.good = err, l.good && !denied
	return l
}

// Identify returns nil if there is a token, or a way to log in for one. It sends no request.
func (c *Client) Identify(ctx context.Context) error {
	clients, err := c.clients()
	if err != nil {
		return err
	}
	if c.login != nil {
		return c.login.possible()
	}
	_, _, err = c.identify(ctx, clients)
	return err
}

// Verify checks with auth/token/lookup-self that Vault knows the token. It sends a lookup at most
// every 30 s, and sooner after Vault has refused a use of the token with 403. After a denial it
// retries with a pause that grows from 1 s to 30 s, and immediately if the token has changed, for
// example by a new login.
func (c *Client) Verify(ctx context.Context) error {
	clients, err := c.clients()
	if err != nil {
		return err
	}
	for again := false; ; again = true {
		client, token, err := c.identify(ctx, clients)
		if err != nil {
			return c.heal(err)
		}
		err = c.verify(ctx, client, token)
		if c.login != nil && !again && fault.ReasonOf(err) == fault.Denied {
			continue
		}
		if err == nil {
			c.maintain(client, token)
		}
		return c.heal(err)
	}
}

// reverify verifies a token after a 403 on another use, within lookupTimeout.
func (c *Client) reverify(ctx context.Context, client *api.Client, token string) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	return c.verify(ctx, client, token)
}

// verify looks up the token if that is due, for one caller at a time.
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
		found.lease.renewable = found.lease.renewable && found.uses == 0 // a renewal would use up one of the token's uses
		c.state.Lock()
		c.renewal = c.renewal.observed(token, found.lease, asked)
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

// doubt is called for each 403 that Vault returns for a use of the token.
func (c *Client) doubt(token string) {
	c.state.Lock()
	defer c.state.Unlock()
	if token == c.lookup.token {
		c.lookup = c.lookup.doubts()
	}
}

// found is the result of a token lookup.
type found struct {
	lease lease
	uses  int // num_uses, 0 for no limit

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
	// In its last second a token has a TTL of 0, like one that never expires.
	expires := data.ExpireTime != nil && string(data.ExpireTime) != "null"
	if f.lease.ttl == 0 && expires {
		f.lease.ttl = time.Millisecond
	}
	return f, nil
}

// seconds converts a TTL from Vault. It is capped at a century, which fits a Duration.
func seconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * 3600
	return time.Duration(min(max(n, 0), century)) * time.Second
}
