package vault_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/vault"

	"github.com/matryer/is"
)

const renewPath = "/v1/auth/token/renew-self"

// A life is the lifetime of a token in a played Vault.
type life struct {
	ttl      time.Duration // from its issue and from each renewal; 0: it never expires
	max      time.Duration // from its issue; 0: no limit
	fixed    bool          // not renewable
	uses     int
	broken   canned        // response to renewals, if it has a status
	took     time.Duration // duration of a renewal
	renewals []time.Duration

	mu              sync.Mutex
	issued, expires time.Time
	underWay        bool
}

// left returns the remaining lifetime in seconds, truncated as in Vault.
func (l *life) left() int64 {
	if l.issued.IsZero() {
		l.issued, l.expires = time.Now(), time.Now().Add(l.ttl)
	}
	return int64(time.Until(l.expires) / time.Second)
}

func (l *life) lookup() canned {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ttl == 0 {
		return canned{200, `{"data":{"id":"s.canary","ttl":0,"creation_ttl":0,"renewable":false,"expire_time":null}}`}
	}
	if l.left(); !time.Now().Before(l.expires) {
		return canned{403, wrongToken}
	}
	return canned{200, fmt.Sprintf(`{"data":{"id":"s.canary","ttl":%d,"creation_ttl":%d,"renewable":%t,"num_uses":%d}}`,
		l.left(), int64(l.ttl/time.Second), !l.fixed, l.uses)}
}

func (l *life) renew() canned {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.underWay {
		return canned{500, "two renewals at a time"}
	}
	l.underWay = true
	l.mu.Unlock()
	time.Sleep(l.took)
	l.mu.Lock()
	l.underWay = false
	l.renewals = append(l.renewals, time.Since(l.issued))
	if l.broken.status != 0 {
		return l.broken
	}
	l.expires = time.Now().Add(l.ttl)
	if end := l.issued.Add(l.max); l.max != 0 && l.expires.After(end) {
		l.expires = end
	}
	return canned{200, fmt.Sprintf(`{"auth":{"client_token":"s.canary","lease_duration":%d,"renewable":true}}`, l.left())}
}

// use checks the token every few seconds for a while, and returns the last reason.
func use(t *testing.T, client *vault.Client, d time.Duration) (last fault.Reason) {
	t.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(5 * time.Second) {
		last = check(t, client)
	}
	synctest.Wait()
	return last
}

func warnings(p *played) int { return strings.Count(p.logs.String(), "the Vault token expires soon") }

func TestTokenIsRenewedAtTwoThirdsOfItsTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", life: &life{ttl: 10 * time.Minute, took: 3 * time.Second}}
		client := p.client(t)
		is.Equal(use(t, client, time.Hour), fault.Reason("")) // six times its TTL
		before := time.Duration(0)
		for _, at := range p.life.renewals {
			is.True(at-before >= 6*time.Minute && at-before <= 8*time.Minute) // 400 s and a small random delay
			before = at
		}
		is.True(len(p.life.renewals) >= 7)
		is.Equal(warnings(p), 0)
		is.True(client.TokenExpiry().Sub(p.life.expires).Abs() <= 4*time.Second) // truncated to seconds, and counted from the request
	})
}

func TestTokenIsNotRenewedWhenNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", life: &life{ttl: 10 * time.Minute, took: 3 * time.Second}}
		client := p.client(t)
		use(t, client, time.Second)
		time.Sleep(9 * time.Minute)
		is.Equal(len(p.life.renewals), 0)
		for range 3 { // a feature's use counts too, and one renewal is enough
			_, err := client.API(t.Context())
			is.NoErr(err)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		is.Equal(len(p.life.renewals), 1)
		is.Equal(warnings(p), 0)
	})
}

func TestTokenThatOthersRenewIsLeftToThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", life: &life{ttl: 10 * time.Minute}}
		client := p.client(t)
		for range 12 {
			use(t, client, 5*time.Minute)
			p.life.expires = time.Now().Add(p.life.ttl) // as Vault Agent does, earlier than we do
		}
		use(t, client, 31*time.Second)
		is.Equal(len(p.life.renewals), 0)
		is.True(time.Until(client.TokenExpiry()) > 9*time.Minute)
		is.Equal(warnings(p), 0)
	})
}

func TestRenewalsThatFailAreTriedAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", life: &life{ttl: time.Hour, broken: canned{500, `{"errors":["canary"]}`}}}
		client := p.client(t)
		is.Equal(use(t, client, 45*time.Minute), fault.Reason("")) // the token is valid until it expires
		tries := len(p.life.renewals)
		is.True(tries > 6 && tries < 20)
		is.Equal(warnings(p), 1)
		is.True(strings.Contains(p.logs.String(), "a renewal failed: unavailable"))
		is.True(!strings.Contains(p.logs.String(), "canary"))

		p.life.broken = canned{}
		use(t, client, 4*time.Minute)
		is.Equal(len(p.life.renewals), tries+1)
		is.True(time.Until(client.TokenExpiry()) > 55*time.Minute)
		is.Equal(warnings(p), 1)
	})
}

func TestTokenThatHasReachedItsMaxTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", life: &life{ttl: 10 * time.Minute, max: 25 * time.Minute}}
		client := p.client(t)
		is.Equal(use(t, client, 24*time.Minute), fault.Reason(""))
		is.True(len(p.life.renewals) <= 5) // a renewal that cannot succeed is not retried endlessly
		is.Equal(warnings(p), 1)
		is.True(strings.Contains(p.logs.String(), "max TTL"))
		is.Equal(use(t, client, 5*time.Minute), fault.Denied)
		is.True(time.Until(client.TokenExpiry()) < 0) // the time of its expiry is still reported

		p.token = "s.new"
		p.life.issued = time.Time{}
		is.Equal(use(t, client, 2*time.Second), fault.Reason(""))
		is.True(time.Until(client.TokenExpiry()) > 9*time.Minute)
	})
}

func TestTokensThatAreNotRenewed(t *testing.T) {
	for _, test := range []struct {
		when     string
		life     *life
		warnings int
		denied   bool
	}{
		{"one that never ends, such as root's", &life{}, 0, false},
		{"one that is not renewable, such as a batch token", &life{ttl: 10 * time.Minute, fixed: true}, 1, true},
		{"one with limited uses, of which a renewal would take one", &life{ttl: 10 * time.Minute, uses: 5}, 1, false},
	} {
		t.Run(test.when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				p := &played{token: "s.canary", life: test.life}
				client := p.client(t)
				is.Equal(use(t, client, 6*time.Minute), fault.Reason(""))
				is.Equal(warnings(p), 0)
				is.Equal(use(t, client, 3*time.Minute), fault.Reason(""))
				is.Equal(warnings(p), test.warnings) // in the last third
				is.Equal(use(t, client, 3*time.Minute) == fault.Denied, test.denied)
				is.Equal(warnings(p), test.warnings)
				is.Equal(len(p.life.renewals), 0)
				is.Equal(client.TokenExpiry().IsZero(), test.life.ttl == 0)
			})
		})
	}
}

// TestRenewalsThatARateLimitRefuses checks that rate-limited renewals are delayed, and that they
// say nothing about the token.
func TestRenewalsThatARateLimitRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", life: &life{ttl: time.Hour, broken: canned{429, `{"errors":["canary"]}`}}}
		client := p.client(t)
		is.Equal(use(t, client, 45*time.Minute), fault.Reason(""))
		is.True(len(p.life.renewals) > 2 && len(p.life.renewals) < 20)
		is.Equal(warnings(p), 0)
		p.life.broken = canned{}
		use(t, client, 4*time.Minute)
		is.True(time.Until(client.TokenExpiry()) > 55*time.Minute)
	})
}
