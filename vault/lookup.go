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

	// deniedPause is the pause after the first denied lookup; it doubles with each
	// further one up to lookupEvery.
	deniedPause = time.Second
)

// lookup is what the last lookup of the token said, and when the next is due.
type lookup struct {
	token string
	err   error         // of the last lookup; a denial stands until the next
	due   time.Time     // when the next lookup may go out
	pause time.Duration // the pause after the last denial, 0 if there was none
	last  bool          // the token has limited uses: this was the last lookup
}

// Identify reports whether there is a token to ask with. It asks nobody.
func (c *Client) Identify(ctx context.Context) error {
	clients, err := c.clients()
	if err != nil {
		return err
	}
	_, err = c.identify(ctx, clients.identified)
	return err
}

// Verify says whether Vault knows the token, from auth/token/lookup-self, which it asks
// at most every 30 s. After a denial it asks again with a pause that grows from 1 s to
// 30 s, and at once when the token has changed.
func (c *Client) Verify(ctx context.Context) error {
	clients, err := c.clients()
	if err != nil {
		return err
	}
	token, err := c.identify(ctx, clients.identified)
	if err != nil {
		return err
	}
	c.looking.Lock()
	defer c.looking.Unlock()
	if token != c.lookup.token {
		c.lookup = lookup{token: token}
	}
	if !c.lookup.last && !time.Now().Before(c.lookup.due) {
		c.lookupSelf(ctx, clients.identified)
	}
	if c.lookup.err == nil {
		c.tend(clients.identified, token)
	}
	return c.heal(c.lookup.err)
}

// lookupSelf looks the token up and decides when that is done again.
func (c *Client) lookupSelf(ctx context.Context, client *api.Client) {
	asked := time.Now()
	lease, uses, err := lookupToken(ctx, client)
	next := lookup{token: c.lookup.token, err: err}
	switch {
	case err == nil:
		next.due = time.Now().Add(lookupEvery)
		next.last = uses != 0
		lease.renewable = lease.renewable && uses == 0 // a renewal spends a use
		c.tending.Lock()
		c.renewal = c.renewal.saw(next.token, lease, asked)
		c.tending.Unlock()
	case fault.ReasonOf(err) == fault.Denied:
		next.pause = min(max(2*c.lookup.pause, deniedPause), lookupEvery)
		next.due = time.Now().Add(next.pause)
	default: // says nothing of the token: again at the next check
		next.pause = c.lookup.pause
	}
	c.lookup = next
	if next.last {
		c.config.Log.Warn("the Vault token has a limited number of uses: it is not looked up again, so that no more are spent on it")
	}
}

// lookupToken looks the client's token up. Its uses are its num_uses, 0 for a token
// without limit.
func lookupToken(ctx context.Context, client *api.Client) (l lease, uses int, err error) {
	status, body, err := read(ctx, client, "auth/token/lookup-self", nil)
	switch {
	case err != nil:
		return lease{}, 0, err
	case status == http.StatusForbidden:
		return lease{}, 0, fault.New(fault.Denied, "Vault refuses the token's lookup of itself")
	case status != http.StatusOK:
		return lease{}, 0, fault.Status(status)
	}
	var answer struct {
		Data struct {
			ID          *string `json:"id"`
			Policies    []any   `json:"policies"`
			TTL         *int64  `json:"ttl"`
			CreationTTL int64   `json:"creation_ttl"`
			Renewable   bool    `json:"renewable"`
			NumUses     *int    `json:"num_uses"`
		} `json:"data"`
	}
	err = json.Unmarshal(body, &answer)
	data := answer.Data
	if err != nil || data.ID == nil && data.Policies == nil && data.TTL == nil && data.NumUses == nil {
		return lease{}, 0, fault.New(fault.BadResponse, "lookup-self did not answer as Vault does")
	}
	if data.NumUses != nil {
		uses = *data.NumUses
	}
	l = lease{full: seconds(data.CreationTTL), renewable: data.Renewable}
	if data.TTL != nil {
		l.ttl = seconds(*data.TTL)
	}
	return l, uses, nil
}

// seconds returns a TTL of Vault's. None is over a century, which a Duration holds.
func seconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * 3600
	return time.Duration(min(max(n, 0), century)) * time.Second
}
