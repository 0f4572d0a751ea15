package vault_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
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
	cached   bool // reads return the last lease
	broken   int  // status of reads, 0 for success
	noRenew  int  // status of renewals, 0 for success

	mu       sync.Mutex
	reads    int
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
		e.reads++
		if e.broken != 0 {
			return canned{e.broken, `{"errors":["canary"]}`}, true
		}
		if !e.cached || e.made == 0 {
			e.made++
			e.issued = time.Now()
		}
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

// TestLeaseWithoutUsableCredentials checks that only a denial or a rate limit delays the next read.
func TestLeaseWithoutUsableCredentials(t *testing.T) {
	for status, paced := range map[int]bool{403: true, 412: true, 429: true, 400: false, 404: false, 500: false, 503: false} {
		e := &engine{ttl: 9 * time.Minute, fixed: true, broken: status}
		withLease(t, e, func(is *is.I, _ *played, get func() string) {
			for range 60 {
				is.True(!strings.HasPrefix(get(), "user-"))
				time.Sleep(time.Second)
			}
			is.Equal(e.reads <= 10, paced) // status
			is.True(e.reads <= 60)         // one for each use
			e.set(func() { e.broken = 0 })
			is.Equal(get() == "user-1", !paced)
			time.Sleep(31 * time.Second)
			is.Equal(get(), "user-1")
		})
	}
}

// TestLeaseThatEndsWhileReadsFail checks that the pause after a failed read ends with the
// credentials.
func TestLeaseThatEndsWhileReadsFail(t *testing.T) {
	for offset := range 30 {
		e := &engine{ttl: 9 * time.Minute, fixed: true}
		withLease(t, e, func(is *is.I, _ *played, get func() string) {
			is.Equal(get(), "user-1")
			time.Sleep(7*time.Minute + time.Duration(offset)*time.Second)
			e.set(func() { e.broken = 503 })
			for time.Since(e.issued) < 9*time.Minute-time.Second {
				is.Equal(get(), "user-1")
				time.Sleep(time.Second)
			}
			is.True(e.reads < 12)
			e.set(func() { e.broken = 0 })
			time.Sleep(time.Second)
			is.Equal(get(), "user-2")
		})
	}
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

// TestLeaseWhoseCredentialsAreAlwaysRefused: a database that refuses every user gets few of them,
// and none stays.
func TestLeaseWhoseCredentialsAreAlwaysRefused(t *testing.T) {
	e := &engine{ttl: time.Hour}
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", lookup: canned{200, lookedUp}, engine: e}
		lease := p.client(t).Lease(ledgerRole)
		for began := time.Now(); time.Since(began) < 10*time.Minute; time.Sleep(time.Second) {
			if got, err := lease.Get(t.Context()); err == nil {
				lease.Refused(got.Version)
			}
		}
		synctest.Wait()
		is.True(e.made >= 10 && e.made <= 30) // one in half a minute, after the first few
		is.True(len(e.revoked) >= e.made-1)

		got, err := lease.Get(t.Context())
		for err != nil {
			time.Sleep(time.Second)
			got, err = lease.Get(t.Context())
		}
		time.Sleep(10 * time.Minute) // these are good
		lease.Refused(got.Version)
		_, err = lease.Get(t.Context())
		is.NoErr(err) // others are read at once
	})
}

// TestLeaseWhoseRefusedCredentialsDoNotChange checks that they are read with growing pauses, and
// used again after a pause.
func TestLeaseWhoseRefusedCredentialsDoNotChange(t *testing.T) {
	for _, every := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			e := &engine{ttl: time.Hour, cached: true}
			p := &played{token: "s.canary", lookup: canned{200, lookedUp}, engine: e}
			p.serve = func(*http.Request) (canned, bool) {
				time.Sleep(10 * time.Millisecond)
				return canned{}, false
			}
			lease := p.client(t).Lease(ledgerRole)
			get := func() fault.Reason {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := lease.Get(ctx)
				return fault.ReasonOf(err)
			}
			is.Equal(get(), fault.Reason(""))
			lease.Refused(1)
			is.Equal(get(), fault.Denied)
			is.Equal(e.reads, 2)
			used := 0
			for began := time.Now(); time.Since(began) < 10*time.Minute; {
				time.Sleep(every)
				if get() == "" {
					used++
					lease.Refused(1)
				}
			}
			is.True(used >= 10)
			is.True(e.reads <= 30)

			time.Sleep(31 * time.Second)
			is.Equal(get(), fault.Reason("")) // the database accepts them again
			time.Sleep(10 * time.Minute)
			lease.Refused(1)
			e.set(func() { e.cached = false })
			got, err := lease.Get(t.Context())
			is.NoErr(err)
			is.Equal(got.Version, uint64(2)) // others are read at once
			is.Equal(e.revoked, []string{"database/creds/ledger/1"})
		})
	}
}

// TestLeasesUnderWayAtClose checks that a lease whose read is under way is revoked, and that one
// whose read hangs prevents no other's.
func TestLeasesUnderWayAtClose(t *testing.T) {
	e := &engine{ttl: time.Hour}
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := &played{token: "s.canary", lookup: canned{200, lookedUp}}
		p.serve = func(r *http.Request) (canned, bool) {
			switch r.URL.Path {
			case "/v1/" + ledgerRole:
				time.Sleep(time.Second)
			case "/v1/database/creds/hangs":
				time.Sleep(time.Minute)
			}
			return e.serve(r)
		}
		client := p.client(t)
		for _, path := range []string{"database/creds/hangs", ledgerRole} {
			lease := client.Lease(path)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := lease.Get(ctx)
			is.Equal(fault.ReasonOf(err), fault.Timeout)
		}
		began := time.Now()
		client.Close(t.Context())
		is.Equal(time.Since(began), 2*time.Second)
		is.Equal(e.revoked, []string{"database/creds/ledger/1"})
		time.Sleep(time.Minute)
	})
}

// TestLeaseWhileALoginHangs: good credentials are returned without a token.
func TestLeaseWhileALoginHangs(t *testing.T) {
	g, e := &gate{ttl: 10 * time.Minute}, &engine{ttl: time.Hour}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		hangs, away := make(chan struct{}), atomic.Bool{}
		l.engine = e
		l.serve = func(r *http.Request) (canned, bool) {
			if away.Load() {
				<-hangs
			}
			if r.URL.Path == "/v1/"+ledgerRole {
				return e.serve(r)
			}
			return g.serve(r)
		}
		lease := l.client.Lease(ledgerRole)
		got, err := lease.Get(t.Context())
		l.NoErr(err)
		away.Store(true)
		for began := time.Now(); time.Since(began) < 20*time.Minute; time.Sleep(10 * time.Second) {
			asked := time.Now()
			again, err := lease.Get(t.Context())
			l.NoErr(err)
			l.Equal(again.Version, got.Version)
			l.Equal(time.Since(asked), time.Duration(0))
		}
		close(hangs)
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
