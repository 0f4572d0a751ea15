package vault_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/vault"

	"github.com/matryer/is"
)

// checkFor checks every second for a while, and counts how often each reason occurs.
func checkFor(t *testing.T, client *vault.Client, d time.Duration) map[fault.Reason]int {
	t.Helper()
	reasons := make(map[fault.Reason]int)
	for began := time.Now(); time.Since(began) < d; time.Sleep(time.Second) {
		reasons[check(t, client)]++
	}
	synctest.Wait()
	return reasons
}

// TestRateLimitSaysNothingOfTheToken checks that a valid token stays valid under a quota that
// others use up, and that it is not looked up more often than before.
func TestRateLimitSaysNothingOfTheToken(t *testing.T) {
	for _, status := range []int{429, 412} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			p := vaultPlayedInMemory(t, canned{200, lookedUp})
			client := p.client(t)
			is.Equal(check(t, client), fault.Reason(""))
			p.lookup = canned{status, `{"errors":["canary"]}`}
			p.count = 0
			reasons := checkFor(t, client, 10*time.Minute)
			is.Equal(len(reasons), 1)
			is.True(reasons[""] > 0)
			is.True(p.count < 30) // 1, 2, 4, 8, 16 and then every 30 s

			p.lookup = canned{403, wrongToken} // a token revoked meanwhile is noticed
			time.Sleep(31 * time.Second)
			is.Equal(check(t, client), fault.Denied)
			p.lookup = canned{status, ""} // a denial is not a successful lookup
			time.Sleep(31 * time.Second)
			is.Equal(check(t, client), fault.Unavailable)
			p.lookup = canned{200, lookedUp}
			time.Sleep(31 * time.Second)
			is.Equal(check(t, client), fault.Reason(""))
		})
	}
}

func TestRateLimitSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := vaultPlayedInMemory(t, canned{200, lookedUp})
		client := p.client(t)
		checkFor(t, client, time.Second)
		p.lookup = canned{429, "come back in 50 s"}
		checkFor(t, client, 31*time.Second)
		is.Equal(p.count, 2)
		checkFor(t, client, 45*time.Second)
		is.Equal(p.count, 2)
		checkFor(t, client, 10*time.Second)
		is.Equal(p.count, 3)
	})
}

func TestRateLimitBeforeTheTokenWasEverLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := vaultPlayedInMemory(t, canned{429, ""})
		client := p.client(t)
		is.Equal(checkFor(t, client, time.Minute)[fault.Unavailable], 60)
		is.True(p.count <= 7)
	})
}

// TestUseThatIsRefused checks that a refused use causes a lookup, with a growing pause if the
// lookup succeeds.
func TestUseThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		p := vaultPlayedInMemory(t, canned{200, lookedUp})
		p.serve = func(r *http.Request) (canned, bool) {
			return canned{403, `{"errors":["canary"]}`}, strings.HasPrefix(r.URL.Path, "/v1/secret/") || strings.HasPrefix(r.URL.Path, "/v1/sys/internal/")
		}
		client := p.client(t)
		kv := vault.KV{Mount: "secret", Path: "x", Key: "y"}
		is.Equal(check(t, client), fault.Reason(""))
		is.Equal(p.count, 1)
		for began := time.Now(); time.Since(began) < 10*time.Minute; time.Sleep(time.Second) {
			_, err := client.Read(t.Context(), kv)
			is.Equal(fault.ReasonOf(err), fault.Denied)
			is.Equal(check(t, client), fault.Reason(""))
		}
		is.True(p.count <= 28) // hardly more than without refused uses

		p.lookup = canned{403, wrongToken} // revoked
		time.Sleep(31 * time.Second)
		_, err := client.Read(t.Context(), kv)
		is.Equal(fault.ReasonOf(err), fault.Denied)
		is.Equal(check(t, client), fault.Denied)
	})
}

// TestLookupThatHangsAfterARefusedUse checks that such a lookup does not hold up checks for as long
// as the use may take.
func TestLookupThatHangsAfterARefusedUse(t *testing.T) {
	g := &gate{ttl: time.Hour}
	withLogin(t, g, func(t *testing.T, l loginTest) {
		hangs, lookups := make(chan struct{}), 0
		l.serve = func(r *http.Request) (canned, bool) {
			switch {
			case strings.HasPrefix(r.URL.Path, "/v1/secret/"):
				return canned{403, `{"errors":["canary"]}`}, true
			case r.URL.Path == lookupPath:
				if lookups++; lookups == 2 {
					<-hangs
				}
			}
			return g.serve(r)
		}
		var reading sync.WaitGroup
		defer reading.Wait()
		defer close(hangs)
		l.Equal(check(t, l.client), fault.Reason(""))
		reading.Go(func() { l.Equal(l.read(t), fault.Denied) })
		synctest.Wait()
		l.Equal(lookups, 2)
		time.Sleep(2 * time.Second)
		l.Equal(check(t, l.client), fault.Reason(""))
		l.Equal(lookups, 3)
	})
}

// TestTokenWithLimitedUsesThatHasNoneLeft checks that the first refused use reveals a used-up
// token.
func TestTokenWithLimitedUsesThatHasNoneLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		uses := 20
		p := vaultPlayedInMemory(t, canned{})
		p.serve = func(r *http.Request) (canned, bool) {
			if r.URL.Path == healthPath {
				return canned{}, false
			}
			if uses--; uses < 0 {
				return canned{403, wrongToken}, true
			}
			if r.URL.Path == lookupPath {
				return canned{200, fmt.Sprintf(`{"data":{"id":"s.canary","num_uses":%d}}`, uses)}, true
			}
			return canned{200, `{"data":{"data":{"key":"value"}}}`}, true
		}
		client := p.client(t)
		is.Equal(checkFor(t, client, time.Minute)[""], 60)
		is.Equal(uses, 19) // one lookup
		for uses > 0 {
			_, err := client.Read(t.Context(), vault.KV{Mount: "secret", Path: "x", Key: "key"})
			is.NoErr(err)
		}
		is.Equal(check(t, client), fault.Reason(""))
		_, err := client.Read(t.Context(), vault.KV{Mount: "secret", Path: "x", Key: "key"})
		is.Equal(fault.ReasonOf(err), fault.Denied)
		is.Equal(check(t, client), fault.Denied)
		is.Equal(checkFor(t, client, time.Minute)[fault.Denied], 60)
	})
}

// TestTokenInItsLastSecond checks a token with a TTL of 0, which a token that never expires also
// has.
func TestTokenInItsLastSecond(t *testing.T) {
	for _, test := range []struct {
		expire string
		ends   bool
	}{
		{`,"expire_time":"2026-01-02T03:04:05.678Z"`, true},
		{`,"expire_time":null`, false},
		{``, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			p := vaultPlayedInMemory(t, canned{200, `{"data":{"id":"s.canary","ttl":0,"creation_ttl":600,"renewable":false` + test.expire + `}}`})
			client := p.client(t)
			is.Equal(check(t, client), fault.Reason(""))
			is.Equal(!client.TokenExpiry().IsZero(), test.ends)
			is.True(!test.ends || time.Until(client.TokenExpiry()).Abs() <= time.Second)
		})
	}
}
