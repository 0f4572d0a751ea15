package vault_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/internal/fault"

	"github.com/matryer/is"
)

// An engine fakes Vault's database secrets engine: each read creates a user.
type engine struct {
	ttl, max time.Duration
	fixed    bool // leases are not renewable
	broken   int  // status of reads, 0 for success
	noRenew  int  // status of renewals, 0 for success

	mu       sync.Mutex
	made     int
	renewals int
	revoked  []string
	issued   time.Time // of the last lease
}

const ledgerRole = "database/creds/ledger"

func (e *engine) serve(r *http.Request) (canned, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r.URL.Path {
	case "/v1/" + ledgerRole:
		if e.broken != 0 {
			return canned{e.broken, `{"errors":["canary"]}`}, true
		}
		e.made++
		e.issued = time.Now()
		return canned{200, fmt.Sprintf(`{"lease_id":"database/creds/ledger/%d","renewable":%t,"lease_duration":%d,"data":{"username":"user-%d","password":"canary","x":1}}`,
			e.made, !e.fixed, int(e.ttl.Seconds()), e.made)}, true
	case "/v1/sys/leases/renew":
		e.renewals++
		if e.noRenew != 0 {
			return canned{e.noRenew, `{"errors":["lease not found: canary"]}`}, true
		}
		left := e.ttl
		if e.max != 0 {
			left = min(left, time.Until(e.issued.Add(e.max)))
		}
		return canned{200, fmt.Sprintf(`{"lease_id":"x","renewable":true,"lease_duration":%d}`, int(left.Seconds()))}, true
	case "/v1/sys/leases/revoke":
		var body struct {
			ID string `json:"lease_id"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		e.revoked = append(e.revoked, body.ID)
		return canned{204, ""}, true
	}
	return canned{}, false
}

func (e *engine) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

// withLease runs a test in a synctest bubble. get returns the user, or the reason for an error.
func withLease(t *testing.T, e *engine, test func(is *is.I, p *played, get func() string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &played{token: "s.canary", lookup: canned{200, lookedUp}, engine: e}
		client := p.client(t)
		lease := client.Lease(ledgerRole)
		test(is.New(t), p, func() string {
			got, err := lease.Get(t.Context())
			synctest.Wait()
			if err != nil {
				if strings.Contains(err.Error(), "canary") {
					t.Errorf("an error shows what it must not: %v", err)
				}
				return string(fault.ReasonOf(err))
			}
			return got.Values["username"]
		})
		before := len(e.revoked)
		client.Close(t.Context())
		if e.made > 0 && len(e.revoked) != before+1 {
			t.Error("the lease was not revoked")
		}
	})
}

func TestLeaseIsReadAtTheFirstUseAndRenewedByUse(t *testing.T) {
	e := &engine{ttl: 10 * time.Minute}
	withLease(t, e, func(is *is.I, _ *played, get func() string) {
		is.Equal(e.made, 0)
		for began := time.Now(); time.Since(began) < time.Hour; time.Sleep(10 * time.Second) {
			is.Equal(get(), "user-1")
		}
		is.True(e.renewals >= 7 && e.renewals <= 10)
		time.Sleep(time.Hour) // unused, so it has expired
		is.True(e.renewals <= 10)
		is.Equal(get(), "user-2")
	})
}

func TestLeaseIsReplacedBeforeItsMaxTTL(t *testing.T) {
	e := &engine{ttl: 10 * time.Minute, max: 25 * time.Minute}
	withLease(t, e, func(is *is.I, p *played, get func() string) {
		for began := time.Now(); time.Since(began) < 2*time.Hour; time.Sleep(5 * time.Second) {
			user := get()
			is.True(strings.HasPrefix(user, "user-")) // credentials are always available
			if user == fmt.Sprint("user-", e.made) {
				is.True(time.Since(e.issued) < 25*time.Minute) // and their lease has not expired
			}
		}
		is.True(e.made >= 5 && e.made <= 8)
	})
}

func TestLeaseThatIsNotRenewableIsReplacedAtTwoThirds(t *testing.T) {
	e := &engine{ttl: 9 * time.Minute, fixed: true}
	withLease(t, e, func(is *is.I, _ *played, get func() string) {
		is.Equal(get(), "user-1")
		time.Sleep(5 * time.Minute)
		is.Equal(get(), "user-1")
		time.Sleep(time.Minute + time.Second)
		is.Equal(get(), "user-1") // during the read of new credentials
		is.Equal(get(), "user-2")
		is.Equal(e.renewals, 0)
	})
}

func TestLeaseIsReplacedWhenItsRenewalIsRefused(t *testing.T) {
	for _, status := range []int{400, 403, 404} {
		e := &engine{ttl: 9 * time.Minute, noRenew: status}
		withLease(t, e, func(is *is.I, _ *played, get func() string) {
			is.Equal(get(), "user-1")
			time.Sleep(7 * time.Minute)
			is.Equal(get(), "user-1") // starts its renewal
			is.Equal(get(), "user-1") // starts a read of new credentials
			is.Equal(get(), "user-2")
		})
	}
}

func TestLeaseIsReplacedWithItsToken(t *testing.T) {
	withLease(t, &engine{ttl: time.Hour}, func(is *is.I, p *played, get func() string) {
		is.Equal(get(), "user-1")
		p.token = "s.another"
		is.Equal(get(), "user-1")
		is.Equal(get(), "user-2")
	})
}

func TestLeaseOfAnEngineThatFails(t *testing.T) {
	e := &engine{ttl: 9 * time.Minute, broken: 500}
	withLease(t, e, func(is *is.I, p *played, get func() string) {
		is.Equal(get(), "unavailable")
		for status, reason := range map[int]string{403: "denied", 400: "misconfigured", 404: "misconfigured", 503: "unavailable"} {
			e.set(func() { e.broken = status })
			time.Sleep(31 * time.Second)
			is.Equal(get(), reason)
		}
		e.set(func() { e.broken = 0 })
		time.Sleep(31 * time.Second)
		is.Equal(get(), "user-1")
		e.set(func() { e.broken, e.noRenew = 500, 503 })
		tries := 0
		for began := time.Now(); time.Since(began) < 9*time.Minute-time.Second; time.Sleep(time.Second) {
			is.Equal(get(), "user-1") // until it expires
			tries++
		}
		time.Sleep(2 * time.Second)
		is.Equal(get(), "unavailable")
		e.set(func() { e.broken = 0 })
		time.Sleep(31 * time.Second)
		is.Equal(get(), "user-2")
		is.True(!strings.Contains(p.logs.String(), "canary"))
		is.True(strings.Count(p.logs.String(), "cannot be read") <= 6) // only when the reason changes
	})
}

func TestLeaseWhoseCredentialsWereRefused(t *testing.T) {
	e := &engine{ttl: time.Hour}
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", lookup: canned{200, lookedUp}, engine: e}
		lease := p.client(t).Lease(ledgerRole)
		got, err := lease.Get(t.Context())
		is.NoErr(err)
		lease.Refused(got.Version)
		again, err := lease.Get(t.Context())
		is.NoErr(err)
		is.Equal(again.Values["username"], "user-2")
		is.Equal(again.Version, got.Version+1)
		lease.Refused(got.Version) // reported by another user of the old credentials
		again, err = lease.Get(t.Context())
		is.NoErr(err)
		is.Equal(again.Values["username"], "user-2")
		for range 100 { // a database that refuses everyone does not cause a new user for each refusal
			lease.Refused(again.Version)
			if got, err := lease.Get(t.Context()); err == nil {
				again = got
			}
		}
		is.True(e.made <= 3)
	})
}

// recorded returns a canned response as an http.Response.
func recorded(answer canned) *http.Response {
	recorder := httptest.NewRecorder()
	for name, value := range answer.header() {
		recorder.Header().Set(name, value)
	}
	recorder.WriteHeader(answer.status)
	_, _ = recorder.WriteString(answer.body)
	return recorder.Result()
}
