package vault

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/single"

	"github.com/hashicorp/vault/api"
)

const (
	// leaseTimeout is the deadline of one read or renewal of a lease: an engine may create
	// a user in a database meanwhile.
	leaseTimeout = 10 * time.Second

	// rereadEvery is how long credentials without a lease are used, such as those of a
	// static role, before they are read again.
	rereadEvery = time.Minute
)

// Credentials are what a secrets engine made for a [Lease].
type Credentials struct {
	Values  map[string]string // such as username and password; not to be changed
	Version uint64            // grows when the values change, from 1 on
}

// A Lease holds dynamic credentials of one path, such as database/creds/coffeebuddy. They
// are read at the first use, renewed at two thirds of their TTL by use, and replaced before
// their max TTL, when a renewal is refused, and when the token they belong to is replaced:
// with a token, its leases end. The old ones are handed out until the new ones are there,
// and left to end by themselves. An unused lease is never renewed.
type Lease struct {
	client *Client
	path   string
	work   single.Work

	mu      sync.Mutex
	held    Credentials // Version 0 for none
	id      string      // of the lease, "" for none
	token   string      // that it was made with
	life    renewal
	reread  time.Time     // when credentials without a lease are read again
	refused bool          // the database has refused them
	err     error         // of the last read
	next    time.Time     // no read before
	pause   time.Duration // after the last read that failed
	failing fault.Reason  // as was logged
}

// Lease returns the lease of a path. It asks nobody before the first [Lease.Get].
func (c *Client) Lease(path string) *Lease {
	if c == nil {
		return &Lease{} // whose Get does not get any further than use
	}
	l := &Lease{
		client: c, path: path,
		work: single.Work{Name: "lease of dynamic credentials", Timeout: leaseTimeout, Log: c.config.Log, OnPanic: c.config.OnPanic},
	}
	c.state.Lock()
	c.leases = append(c.leases, l)
	c.state.Unlock()
	return l
}

// Get returns the credentials of the moment. Ask at each use. Where there are none yet it
// waits for them, until ctx ends.
func (l *Lease) Get(ctx context.Context) (Credentials, error) {
	for {
		client, token, err := l.client.use(ctx)
		l.mu.Lock()
		now := time.Now()
		if l.held.Version > 0 && !l.refused && l.alive(now) {
			if err == nil {
				l.tend(client, token, now)
			}
			defer l.mu.Unlock()
			return l.held, nil
		}
		if err == nil && l.work.Running() == nil && now.Before(l.next) {
			err = l.err
		}
		if err != nil {
			l.mu.Unlock()
			return Credentials{}, err
		}
		ended := l.replace()
		l.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return Credentials{}, fault.Of(ctx.Err())
		}
	}
}

// Refused says that the credentials of a version were not accepted: they are replaced at
// the next use.
func (l *Lease) Refused(version uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held.Version == version {
		l.refused = true
		l.err = fault.New(fault.Denied, "the credentials were refused, and there are no others yet")
	}
}

func (l *Lease) alive(now time.Time) bool {
	return l.life.expires.IsZero() || now.Before(l.life.expires)
}

// tend starts, beside a use, what is due. The lock is held.
func (l *Lease) tend(client *api.Client, token string, now time.Time) {
	switch {
	case l.work.Running() != nil:
	case token != l.token || l.life.ending(now) || !l.reread.IsZero() && !now.Before(l.reread):
		if !now.Before(l.next) {
			l.replace()
		}
	case l.life.isDue(now):
		l.renew(client)
	}
}

// replace reads new credentials. The lock is held.
func (l *Lease) replace() (ended <-chan struct{}) {
	var (
		got   leased
		asked time.Time
	)
	return l.work.Start(context.Background(), func(ctx context.Context) (err error) {
		asked = time.Now()
		got, err = l.client.readLease(ctx, l.path)
		return err
	}, func(err error) {
		l.mu.Lock()
		before, now := l.failing, time.Now()
		l.err, l.failing = err, fault.ReasonOf(err)
		if err != nil {
			l.pause = longer(l.pause, lookupEvery)
			l.next = now.Add(l.pause)
		} else {
			l.took(got, asked)
		}
		after := l.failing
		l.mu.Unlock()
		switch log := l.client.config.Log; {
		case after != "" && after != before:
			log.Warn("dynamic credentials cannot be read", "reason", string(after), "detail", fault.Of(err).Detail)
		case after == "" && before != "":
			log.Info("dynamic credentials can be read again")
		}
	})
}

// took keeps new credentials. The lock is held.
func (l *Lease) took(got leased, asked time.Time) {
	switch {
	case l.held.Version == 0 || !maps.Equal(l.held.Values, got.values):
		l.held = Credentials{got.values, l.held.Version + 1}
		l.next, l.pause = time.Time{}, 0
		if l.refused { // new ones may be refused as well
			l.pause, l.next = firstPause, asked.Add(firstPause)
		}
		l.refused = false
	case l.refused: // they are the same
		l.pause = longer(l.pause, lookupEvery)
		l.next = time.Now().Add(l.pause)
	default:
		l.next, l.pause = time.Time{}, 0
	}
	l.id, l.token, l.life, l.reread = got.id, got.token, renewal{}, time.Time{}
	if got.id == "" {
		l.reread = asked.Add(rereadEvery)
		return
	}
	l.life = l.life.saw(got.id, got.lease, asked)
}

// renew renews the lease. The lock is held.
func (l *Lease) renew(client *api.Client) {
	var (
		renewed lease
		id      = l.id
		asked   = time.Now()
	)
	l.work.Start(context.Background(), func(ctx context.Context) (err error) {
		renewed, err = renewLease(ctx, client, id)
		return err
	}, func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil {
			l.life = l.life.succeeded(id, renewed, asked)
		} else {
			l.life = l.life.failed(id, err, time.Now())
		}
	})
}

// leased is what a secrets engine has made.
type leased struct {
	id     string
	token  string // that it was made with
	lease  lease
	values map[string]string
}

// readLease reads a path that makes credentials.
func (c *Client) readLease(ctx context.Context, path string) (leased, error) {
	resp, token, err := c.get(ctx, path, nil)
	switch {
	case err != nil:
		return leased{}, err
	case resp.status == http.StatusForbidden:
		return leased{}, fault.New(fault.Denied, "Vault refuses to make credentials")
	case resp.status == http.StatusNotFound, resp.status == http.StatusBadRequest:
		return leased{}, fault.New(fault.Misconfigured, "Vault has no role there that it can make credentials for")
	case resp.status != http.StatusOK:
		return leased{}, fault.Status(resp.status)
	}
	var answer struct {
		LeaseID       string         `json:"lease_id"`
		LeaseDuration int64          `json:"lease_duration"`
		Renewable     bool           `json:"renewable"`
		Data          map[string]any `json:"data"`
	}
	if json.Unmarshal(resp.body, &answer) != nil || len(answer.Data) == 0 {
		return leased{}, fault.New(fault.BadResponse, "the credentials did not come as from a secrets engine")
	}
	ttl := seconds(answer.LeaseDuration)
	got := leased{answer.LeaseID, token, lease{ttl: ttl, full: ttl, renewable: answer.Renewable}, make(map[string]string)}
	for key, value := range answer.Data {
		if text, ok := value.(string); ok {
			got.values[key] = text
		}
	}
	return got, nil
}

// renewLease renews a lease for what Vault gives it by default.
func renewLease(ctx context.Context, client *api.Client, id string) (lease, error) {
	resp, err := write(ctx, client, "sys/leases/renew", map[string]string{"lease_id": id})
	switch {
	case err != nil:
		return lease{}, err
	case resp.status == http.StatusForbidden:
		return lease{}, fault.New(fault.Denied, "Vault refuses the renewal of the lease")
	case resp.status != http.StatusOK:
		return lease{}, resp.failure()
	}
	var answer struct {
		LeaseDuration int64 `json:"lease_duration"`
		Renewable     bool  `json:"renewable"`
	}
	if json.Unmarshal(resp.body, &answer) != nil || answer.LeaseDuration <= 0 {
		return lease{}, fault.New(fault.BadResponse, "the renewal of a lease was not answered as Vault does")
	}
	ttl := seconds(answer.LeaseDuration)
	return lease{ttl: ttl, full: ttl, renewable: answer.Renewable}, nil
}

// revoke ends the lease. An error can be ignored: the lease expires by itself.
func (l *Lease) revoke(ctx context.Context, client *api.Client) {
	l.mu.Lock()
	id := l.id
	l.mu.Unlock()
	if id != "" {
		_, _ = write(ctx, client, "sys/leases/revoke", map[string]any{"lease_id": id, "sync": false})
	}
}
