package e2e

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// startGuarded starts a function whose events need the scope.
func startGuarded(t *testing.T, p platform, variables ...string) *function {
	t.Helper()
	return start(t, append(append(p.environment(), "COFFEEBUDDY_EVENTS_SCOPE="+devstack.EventsScope), variables...)...)
}

// send sends an event with an access token, or without one, and holds the answer and the log to showing nothing of it.
func (f *function) send(t *testing.T, token devstack.Secret) answer {
	t.Helper()
	a, err := f.post(t.Context(), f.client, token, "boson.fn")
	if err != nil {
		t.Fatal(err)
	}
	if what := f.secrets.shownIn(a.text()); what != "" {
		t.Errorf("the answer shows of the secret %s", what)
	}
	return a
}

func (f *function) post(ctx context.Context, client *http.Client, token devstack.Secret, eventType string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, strings.NewReader(`{"coffee":1}`))
	if err != nil {
		return answer{}, err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/e2e", "Ce-Type": eventType,
	} {
		request.Header.Set(name, value)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(body)}, err
}

// accessToken gets a token of a client of its own, which the function must not show.
func accessToken(t *testing.T, p platform, f *function, options devstack.ClientOptions, scope string) (devstack.Secret, devstack.Client) {
	t.Helper()
	client, err := p.hydra.CreateClientWith(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.hydra.AccessToken(t.Context(), client, scope, options.Audience...)
	if err != nil {
		t.Fatal(err)
	}
	_, secret, _ := strings.Cut(token.Reveal(), "ory_at_") // which every one starts with
	f.secrets["access token "+client.ID] = secretsOf([]string{"VAULT_TOKEN=" + secret})["VAULT_TOKEN"]
	return token, client
}

func TestEventsScope(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := startGuarded(t, p)
	f.becomes(t, healthy(), soon)

	const (
		none      = `Bearer realm="coffeebuddy", scope="events"`
		bad       = `Bearer realm="coffeebuddy", error="invalid_token", scope="events"`
		tooNarrow = `Bearer realm="coffeebuddy", error="insufficient_scope", scope="events"`
	)
	good, client := accessToken(t, p, f, devstack.ClientOptions{Scope: "events other"}, "events")
	narrow, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events other"}, "other")
	broad, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events other"}, "other events")
	ours, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events", Audience: []string{"coffeebuddy"}}, "events")
	theirs, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events", Audience: []string{"payments"}}, "events")
	for _, test := range []struct {
		token     devstack.Secret
		status    int
		challenge string
	}{
		{good, 200, ""},
		{broad, 200, ""},
		{ours, 200, ""},
		{theirs, 401, bad},
		{narrow, 403, tooNarrow},
		{"ory_at_nobody.knows", 401, bad},
		{"", 401, none},
	} {
		for range 2 { // the second time from memory
			a := f.send(t, test.token)
			is.Equal(a.status, test.status)
			is.Equal(a.header.Get("WWW-Authenticate"), test.challenge)
		}
	}
	m := f.metrics(t.Context(), t)
	is.Equal(m[`coffeebuddy_events_total{outcome="unauthorized"}`], 8.0)
	is.Equal(m[`coffeebuddy_events_total{outcome="accepted"}`], 6.0)

	slack, err := f.post(t.Context(), f.client, good, "com.slack.command")
	is.NoErr(err)
	is.Equal(slack.status, 422) // of a type that nobody receives, in dev

	// A revocation is seen within 30 s, and an expiry at once.
	short, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events", TokenTTL: 4 * time.Second}, "events")
	is.Equal(f.send(t, short).status, 200)
	is.NoErr(p.hydra.RevokeToken(t.Context(), client, good))
	eventually(t, 4*time.Second+soon, func() bool { return f.send(t, short).status == 401 })
	is.Equal(f.send(t, good).status, 200) // still believed
	eventually(t, lookupSoon, func() bool { return f.send(t, good).status == 401 })
}

// TestEventsScopeWithoutHydra: whatever becomes of it, nobody is told that a good token is bad, since senders do not try again then.
func TestEventsScopeWithoutHydra(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]func(*devstack.Hydra) (breaks, heals func(context.Context) error){
		"hung":    func(h *devstack.Hydra) (breaks, heals func(context.Context) error) { return h.Freeze, done(h.Thaw) },
		"stopped": func(h *devstack.Hydra) (breaks, heals func(context.Context) error) { return h.Stop, h.Start },
		"without its database": func(h *devstack.Hydra) (breaks, heals func(context.Context) error) {
			return done(h.BreakDatabase), done(h.RepairDatabase)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			p := startPlatform(t, devstack.VaultOptions{})
			f := startGuarded(t, p)
			known, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events"}, "events")
			unknown, _ := accessToken(t, p, f, devstack.ClientOptions{Scope: "events"}, "events")
			is.Equal(f.send(t, known).status, 200)
			breaks, heals := steps(p.hydra)
			is.NoErr(breaks(t.Context()))
			a := f.send(t, unknown)
			is.Equal(a.status, 503)
			is.Equal(a.header.Get("Retry-After"), "1")
			is.Equal(a.header.Get("WWW-Authenticate"), "")
			is.Equal(a.body, `{"error":"retry"}`+"\n")
			is.Equal(f.send(t, known).status, 200) // from memory
			is.NoErr(heals(t.Context()))
			eventually(t, soon, func() bool {
				status := f.send(t, unknown).status
				is.True(status == 200 || status == 503)
				return status == 200
			})
			is.Equal(strings.Count(f.logged(t), "Ory cannot be asked about tokens"), 1)
		})
	}
}

// TestEventsScopeWithoutASetting: with no Hydra to ask, nobody is let in.
func TestEventsScopeWithoutASetting(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := start(t, "COFFEEBUDDY_EVENTS_SCOPE=events")
	is.Equal(f.send(t, "any").status, 503)
	is.Equal(f.send(t, "").status, 401)
}

// TestEventsScopeMidFlight breaks Hydra's connections under load: no good token is called bad, and no bad one good.
func TestEventsScopeMidFlight(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	hydra, err := url.Parse(p.hydra.AdminURL)
	is.NoErr(err)
	proxy := httputil.NewSingleHostReverseProxy(hydra)
	proxy.ErrorLog = log.New(io.Discard, "", 0) // of what is cut
	server := httptest.NewServer(proxy)
	defer server.Close()
	f := startGuarded(t, p, "ORY_BASE_URL="+server.URL, "COFFEEBUDDY_EVENTS_IN_FLIGHT=200")
	var tokens []devstack.Secret
	for range 20 {
		token, err := p.hydra.AccessToken(t.Context(), p.hydra.Client, devstack.EventsScope)
		is.NoErr(err)
		tokens = append(tokens, token)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var senders sync.WaitGroup
	var mu sync.Mutex
	good, bad := make(map[int]int), make(map[int]int)
	for worker := range 8 {
		senders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				a, err := f.post(t.Context(), client, tokens[(worker+n)%len(tokens)], "boson.fn")
				b, err2 := f.post(t.Context(), client, devstack.Secret(fmt.Sprintf("ory_at_%d.%d", worker, n)), "boson.fn")
				if err != nil || err2 != nil {
					t.Error(err, err2)
					return
				}
				mu.Lock()
				good[a.status]++
				bad[b.status]++
				mu.Unlock()
			}
		})
	}
	for ctx.Err() == nil {
		server.CloseClientConnections()
		pause(ctx, 20*time.Millisecond)
	}
	senders.Wait()
	t.Log("good tokens:", good, "bad tokens:", bad)
	is.True(good[200] > 0 && bad[401] > 0)
	for status := range good {
		is.True(status == 200 || status == 503)
	}
	for status := range bad {
		is.True(status == 401 || status == 503)
	}
}
