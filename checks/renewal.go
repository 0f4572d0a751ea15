package checks

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	vault "github.com/hashicorp/vault/api"
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

// failed returns the renewal after one that failed for a reason.
func (r renewal) failed(token string, reason Reason, now time.Time) renewal {
	if token != r.token {
		return r
	}
	r.pause = max(renewPause, min(2*r.pause, r.expires.Sub(now)/10))
	r.due = now.Add(r.pause*3/4 + rand.N(r.pause/2)) //nolint:gosec // no secret
	r.why, r.warnAt = "a renewal failed: "+string(reason), now
	return r
}

// isDue reports whether the token should be renewed. One that has expired cannot be.
func (r renewal) isDue(now time.Time) bool {
	return !r.due.IsZero() && !now.Before(r.due) && now.Before(r.expires)
}

// warns reports whether it is time for the one warning before the token expires.
func (r renewal) warns(now time.Time) bool {
	return r.why != "" && !r.warned && !now.Before(r.warnAt) && now.Before(r.expires)
}

// tend starts the token's renewal if that is due, and warns if it comes to its end.
func (v *Vault) tend(client *vault.Client, token string) {
	now := time.Now()
	v.tending.Lock()
	known := v.renewal.token == token
	renews := known && !v.renewing && v.renewal.isDue(now)
	v.renewing = v.renewing || renews
	v.tending.Unlock()
	if renews {
		go v.renew(client, token)
	}
	v.warn(now)
}

// renew renews the token once, and decides when that is done again.
func (v *Vault) renew(client *vault.Client, token string) {
	ctx, cancel := context.WithTimeout(context.Background(), renewTimeout)
	defer cancel()
	asked := time.Now()
	lease, err := renewToken(ctx, client)
	v.tending.Lock()
	v.renewing = false
	if err == nil {
		v.renewal = v.renewal.succeeded(token, lease, asked)
	} else {
		v.renewal = v.renewal.failed(token, ReasonOf(err), time.Now())
	}
	v.tending.Unlock()
	v.warn(time.Now())
}

// warn logs, once, that the token expires.
func (v *Vault) warn(now time.Time) {
	v.tending.Lock()
	r := v.renewal
	warns := r.warns(now)
	v.renewal.warned = r.warned || warns
	v.tending.Unlock()
	if warns {
		v.config.Log.Warn("the Vault token expires soon", "expires_at", r.expires.UTC().Truncate(time.Second), "why", r.why)
	}
}

// renewToken renews the client's token for what Vault gives it by default.
// A panic is an error: the goroutine is nobody's who could recover it.
func renewToken(ctx context.Context, client *vault.Client) (l lease, err error) {
	defer func() {
		if recover() != nil {
			l, err = lease{}, Fail(ReasonBadResponse, "reading the answer to a renewal panicked")
		}
	}()
	secret, err := client.Auth().Token().RenewSelfWithContext(ctx, 0)
	if answered, ok := errors.AsType[*vault.ResponseError](err); ok { // its text quotes the URL and the body
		if answered.StatusCode == http.StatusForbidden {
			return lease{}, Fail(ReasonDenied, "Vault refuses the token's renewal of itself")
		}
		return lease{}, statusError(answered.StatusCode)
	}
	if err != nil {
		return lease{}, classify(err)
	}
	if secret == nil || secret.Auth == nil {
		return lease{}, Fail(ReasonBadResponse, "renew-self did not answer as Vault does")
	}
	ttl := seconds(int64(secret.Auth.LeaseDuration))
	return lease{ttl: ttl, full: ttl, renewable: secret.Auth.Renewable}, nil
}
