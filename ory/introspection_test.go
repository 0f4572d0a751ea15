package ory_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/internal/servertest"
	"coffeebuddy/ory"

	"github.com/matryer/is"
	api "github.com/ory/client-go"
)

const introspectPath = "/admin/oauth2/introspect"

// hydra fakes Ory Hydra's admin API.
type hydra struct {
	mu     sync.Mutex
	answer canned
	ready  canned
	asked  int    // number of introspections
	scoped canned // response to introspections that name a scope, if it has a status

	askedReady int
	requests   []string
	hold       chan struct{} // if not nil, introspections wait for it
	good       string        // tokens with this prefix are active, whatever the response
	takes      time.Duration // duration of an introspection
}

const (
	goodToken = `{"active":true,"scope":"openid events","client_id":"c","exp":4102444800,"token_use":"access_token","token_type":"Bearer","aud":[]}`
	inactive  = `{"active":false}`
	oryReady  = `{"status":"ok"}`
)

func (h *hydra) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	dump, _ := httputil.DumpRequest(r, true)
	h.mu.Lock()
	if h.good == "" {
		h.requests = append(h.requests, string(dump))
	}
	answer, hold := h.ready, h.hold
	if strings.HasSuffix(r.URL.Path, introspectPath) {
		h.asked++
		answer = h.answer
		if h.scoped.status != 0 && r.FormValue("scope") != "" {
			answer = h.scoped
		}
		if h.good != "" && strings.HasPrefix(r.FormValue("token"), h.good) {
			answer.body = goodToken
		}
		if h.takes > 0 {
			h.mu.Unlock()
			time.Sleep(h.takes)
			h.mu.Lock()
		}
	} else {
		h.askedReady++
		hold = nil
	}
	h.mu.Unlock()
	if hold != nil {
		<-hold
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(answer.status)
	_, _ = io.WriteString(w, answer.body)
}

func (h *hydra) set(answer, ready canned) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer, h.ready = answer, ready
}

func (h *hydra) questions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked
}

func (h *hydra) readinesses() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.askedReady
}

func introspection(base string, logs *servertest.Logs) *ory.Introspection {
	i, err := ory.NewIntrospection(ory.IntrospectionConfig{
		BaseURL: base, Scope: "events", Audience: "coffeebuddy", Timeout: time.Second, Log: logs.Logger(),
	})
	if err != nil {
		panic(err)
	}
	return i
}

// permission asks for the permission of the token "canary".
func permission(t *testing.T, i *ory.Introspection) (ory.Permission, fault.Reason) {
	t.Helper()
	p, _, err := i.Permission(t.Context(), "canary")
	if err != nil && strings.Contains(err.Error(), "canary") {
		t.Errorf("an error shows what it must not: %v", err)
	}
	return p, fault.ReasonOf(err)
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	active := func(fields string) canned { return canned{200, `{"active":true` + fields + `}`} }
	up := canned{200, oryReady}
	for _, test := range []struct {
		when          string
		answer, ready canned
		want          ory.Permission
		reason        fault.Reason
	}{
		{"a good token", canned{200, goodToken}, up, ory.Permitted, ""},
		{"the scope alone", active(`,"scope":"events"`), up, ory.Permitted, ""},
		{"fields that are new", active(`,"scope":"events","new":{"x":[1]}`), up, ory.Permitted, ""},
		{"this audience among others", active(`,"scope":"events","aud":["x","coffeebuddy"]`), up, ory.Permitted, ""},

		{"one that is inactive", canned{200, inactive}, up, ory.NotPermitted, ""},
		{"a refresh token", active(`,"scope":"events","token_use":"refresh_token"`), up, ory.NotPermitted, ""},
		{"another audience", active(`,"scope":"events","aud":["coffeebuddy2"]`), up, ory.NotPermitted, ""},
		{"another scope", active(`,"scope":"events.read event"`), up, ory.LacksScope, ""},
		{"a scope in capitals", active(`,"scope":"EVENTS"`), up, ory.LacksScope, ""},
		{"no scope", active(``), up, ory.LacksScope, ""},

		{"inactive, by a Hydra without its database", canned{200, inactive}, canned{503, `{}`}, ory.NotPermitted, fault.Unavailable},
		{"inactive, by something that is no Hydra", canned{200, inactive}, canned{200, "<html>"}, ory.NotPermitted, fault.BadResponse},
		{"a good token, by a Hydra that is not ready", canned{200, goodToken}, canned{503, `{}`}, ory.Permitted, ""},

		{"an error", canned{500, `{"error":"canary"}`}, up, ory.NotPermitted, fault.Unavailable},
		{"a proxy's 401", canned{401, inactive}, up, ory.NotPermitted, fault.Unavailable},
		{"Hydra's public API", canned{404, ""}, up, ory.NotPermitted, fault.Misconfigured},
		{"another success", canned{201, goodToken}, up, ory.NotPermitted, fault.Unavailable},
		{"HTML", canned{200, "<html>canary</html>"}, up, ory.NotPermitted, fault.BadResponse},
		{"nothing", canned{200, ""}, up, ory.NotPermitted, fault.BadResponse},
		{"an empty object", canned{200, "{}"}, up, ory.NotPermitted, fault.BadResponse},
		{"a word for a boolean", canned{200, `{"active":"true","scope":"events"}`}, up, ory.NotPermitted, fault.BadResponse},
		{"two texts", canned{200, goodToken + goodToken}, up, ory.NotPermitted, fault.BadResponse},
		{"null", canned{200, "null"}, up, ory.NotPermitted, fault.BadResponse},
		{"over 64 KiB", active(`,"scope":"` + strings.Repeat("x ", 32<<10) + `events"`), up, ory.NotPermitted, fault.BadResponse},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			played := &hydra{answer: test.answer, ready: test.ready}
			server := httptest.NewServer(played)
			defer server.Close()
			var logs servertest.Logs
			p, reason := permission(t, introspection(server.URL+"/ory//", &logs))
			is.Equal(p, test.want)
			is.Equal(reason, test.reason)
			is.Equal(strings.Contains(logs.String(), `"reason"`), test.reason != "")
			is.True(!strings.Contains(logs.String(), "canary"))
			is.True(strings.HasPrefix(played.requests[0], "POST /ory/admin/oauth2/introspect HTTP/1.1\r\n"))
		})
	}
}

// TestWildcardWhileHydraLosesItsDatabase checks that a negative answer to the second question counts
// only if Hydra is ready after it: a sender does not retry a 403.
func TestWildcardWhileHydraLosesItsDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		wildcard := canned{200, strings.Replace(goodToken, "openid events", "event*", 1)}
		h := &hydra{answer: wildcard, ready: canned{200, oryReady}, scoped: canned{200, inactive}}
		i := h.memory(t)
		p, reason := permission(t, i) // Hydra is known to be ready
		is.Equal(p, ory.LacksScope)
		is.Equal(reason, fault.Reason(""))
		time.Sleep(time.Millisecond) // less than the TTL
		h.set(wildcard, canned{503, `{}`})
		_, _, err := i.Permission(t.Context(), "another")
		is.Equal(fault.ReasonOf(err), fault.Unavailable)
	})
}

// TestIntrospectionIsClientGosOwn compares our requests and our reading of responses with
// client-go's call, which is not linked into the function.
func TestIntrospectionIsClientGosOwn(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	played := &hydra{answer: canned{200, goodToken}}
	server := httptest.NewServer(played)
	defer server.Close()
	const token = "ory_at_-._~+/x=="
	_, _, err := introspection(server.URL, new(servertest.Logs)).Permission(t.Context(), token)
	is.NoErr(err)
	_, _, err = api.NewAPIClient(newClient(t, server.URL).Configuration()).OAuth2API.IntrospectOAuth2Token(t.Context()).Token(token).Execute()
	is.NoErr(err)
	is.Equal(len(played.requests), 2)
	ours := played.requests[0]
	theirs := strings.Replace(played.requests[1], "Connection: close\r\n", "", 1) // our connection is kept alive
	is.Equal(ours, theirs)
}

func TestIntrospectionOfAServerThatFails(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(&hydra{answer: canned{200, goodToken}})
	t.Cleanup(other.Close)
	elsewhere := httptest.NewServer(http.RedirectHandler(other.URL+introspectPath, http.StatusTemporaryRedirect))
	t.Cleanup(elsewhere.Close)
	for _, test := range []struct {
		when, url string
		want      fault.Reason
	}{
		{"nothing listens", "http://127.0.0.1:1", fault.Refused},
		{"it hangs", servertest.HandWritten(t, servertest.Hang), fault.Timeout},
		{"it closes without an answer", servertest.HandWritten(t, servertest.After("")), fault.Refused},
		{"it echoes the request", servertest.HandWritten(t, servertest.After("HTTP/1.1 200 OK\r\ntoken canary\r\n\r\n")), fault.BadResponse},
		{"it points to another host", elsewhere.URL, fault.BadResponse},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var logs servertest.Logs
			i := introspection(test.url, &logs)
			for range 3 {
				p, reason := permission(t, i)
				is.Equal(p, ory.NotPermitted)
				is.Equal(reason, test.want)
			}
			is.Equal(strings.Count(logs.String(), "cannot be asked"), 1)
			is.Equal(i.Answers(), 0) // an error is not cached
		})
	}
}

// TestIntrospectionOnKeptConnections checks that hundreds of requests a second share connections,
// and that a connection which the server has closed causes no failure.
func TestIntrospectionOnKeptConnections(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var mu sync.Mutex
	opened := 0
	server := httptest.NewUnstartedServer(&hydra{answer: canned{200, goodToken}})
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateNew {
			opened++
		}
	}
	server.Start()
	defer server.Close()
	i := introspection(server.URL, new(servertest.Logs))
	for n := range 50 {
		_, _, err := i.Permission(t.Context(), fmt.Sprint("token", n))
		is.NoErr(err)
	}
	mu.Lock()
	is.Equal(opened, 1)
	mu.Unlock()
	for n := range 50 {
		server.CloseClientConnections()
		_, _, err := i.Permission(t.Context(), fmt.Sprint("another", n))
		is.NoErr(err)
	}
}

// memory connects an Introspection to a fake Hydra without a network, for tests in a synctest
// bubble.
func (h *hydra) memory(t *testing.T) *ory.Introspection {
	i := introspection("http://hydra.test", new(servertest.Logs))
	closeIdle := ory.Dial(i, func() net.Conn {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for reader := bufio.NewReader(server); ; {
				req, err := http.ReadRequest(reader)
				if err != nil {
					return
				}
				recorder := httptest.NewRecorder()
				h.ServeHTTP(recorder, req)
				resp := recorder.Result()
				resp.ContentLength = int64(recorder.Body.Len())
				_ = resp.Write(server)
			}
		}()
		return client
	})
	t.Cleanup(closeIdle)
	return i
}

// TestAnswersAreKept asks twice a second for two minutes, and counts the requests that reach Hydra.
func TestAnswersAreKept(t *testing.T) {
	for _, test := range []struct {
		when      string
		answer    string
		questions int
	}{
		{"a good token: refreshed after 20 s", goodToken, 6},
		{"a bad one: 2 s", inactive, 60},
		{"one without the scope: 2 s", `{"active":true}`, 60},
		{"one that expires in 10 s: until then", "10", 12},
		{"one that expires in 40 s: refreshed after 20 s", "40", 6},
		{"one that has expired by our clock: 2 s", "-5", 60},
	} {
		t.Run(test.when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				h := &hydra{ready: canned{200, oryReady}}
				i := h.memory(t)
				for began := time.Now(); time.Since(began) < 2*time.Minute; time.Sleep(500 * time.Millisecond) {
					answer := test.answer
					if !strings.HasPrefix(answer, "{") {
						lives, err := time.ParseDuration(answer + "s")
						is.NoErr(err)
						answer = fmt.Sprintf(`{"active":true,"scope":"events","exp":%d}`, time.Now().Add(lives).Unix())
					}
					h.set(canned{200, answer}, canned{200, oryReady})
					_, _, err := i.Permission(t.Context(), "canary")
					is.NoErr(err)
				}
				is.Equal(h.questions(), test.questions)
			})
		})
	}
}

func TestOneQuestionAtATimePerToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		h := &hydra{answer: canned{200, goodToken}, hold: make(chan struct{})}
		i := h.memory(t)
		impatient, leave := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, _, err := i.Permission(impatient, "canary")
			is.Equal(fault.ReasonOf(err), fault.Timeout) // a caller that leaves gets no answer
		})
		synctest.Wait() // until its request has started
		for range 100 {
			waiting.Go(func() {
				p, _, err := i.Permission(t.Context(), "canary")
				is.NoErr(err)
				is.Equal(p, ory.Permitted)
			})
		}
		synctest.Wait()
		leave() // the first caller leaves; the others still get their answer
		synctest.Wait()
		close(h.hold)
		waiting.Wait()
		is.Equal(h.questions(), 1)
	})
}

// TestTokenEndsBeforeTheAnswer checks that a token which ends while Hydra is asked about it is not
// let in.
func TestTokenEndsBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		ends := fmt.Sprintf(`{"active":true,"scope":"events","exp":%d}`, time.Now().Add(time.Second).Unix())
		h := &hydra{answer: canned{200, ends}, takes: 600 * time.Millisecond}
		i := h.memory(t)
		time.Sleep(500 * time.Millisecond)
		p, reason := permission(t, i)
		is.Equal(p, ory.NotPermitted)
		is.Equal(reason, fault.Reason(""))
	})
}

// TestQuestionsAreBounded checks the limits on running requests and on cached answers.
func TestQuestionsAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of questions under the race detector; make e2e runs it")
	}
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		h := &hydra{answer: canned{200, goodToken}, ready: canned{200, oryReady}, hold: make(chan struct{})}
		i := h.memory(t)
		var waiting sync.WaitGroup
		for n := range 1024 {
			waiting.Go(func() { _, _, _ = i.Permission(t.Context(), fmt.Sprint("first", n)) })
		}
		synctest.Wait()
		is.Equal(h.questions(), 16)
		began := time.Now()
		_, _, err := i.Permission(t.Context(), "one more")
		is.Equal(fault.ReasonOf(err), fault.Unavailable)
		is.Equal(time.Since(began), time.Duration(0))
		close(h.hold)
		waiting.Wait()

		_, _, err = i.Permission(t.Context(), "good")
		is.NoErr(err)
		h.set(canned{200, inactive}, canned{200, oryReady})
		for n := range 5000 { // within their 2 s, because the clock does not advance
			_, _, err := i.Permission(t.Context(), fmt.Sprint("bad", n))
			is.NoErr(err)
		}
		is.Equal(i.Answers(), 4096)
		before := h.questions()
		p, _, err := i.Permission(t.Context(), "good")
		is.NoErr(err)
		is.Equal(p, ory.Permitted)
		is.Equal(h.questions(), before) // negative answers did not evict it

		h.set(canned{200, goodToken}, canned{200, oryReady})
		_, _, err = i.Permission(t.Context(), "newcomer") // a positive one finds room
		is.NoErr(err)
		before = h.questions()
		_, _, err = i.Permission(t.Context(), "newcomer")
		is.NoErr(err)
		is.Equal(h.questions(), before)
		is.Equal(i.Answers(), 4096)

		time.Sleep(3 * time.Second) // negative answers expire; positive ones stay known longer
		_, _, err = i.Permission(t.Context(), "last")
		is.NoErr(err)
		is.True(i.Answers() < 1100)
		time.Sleep(time.Hour)
		h.set(canned{200, inactive}, canned{200, oryReady})
		for n := range 4096 {
			_, _, err := i.Permission(t.Context(), fmt.Sprint("worse", n))
			is.NoErr(err)
		}
		_, _, err = i.Permission(t.Context(), "worst")
		is.NoErr(err)
		is.Equal(i.Answers(), 4096) // without exceeding the limit
	})
}

// TestAGoodAnswerIsUsedWhileItIsRefreshed checks that a positive answer is used until it expires,
// even if Hydra hangs.
func TestAGoodAnswerIsUsedWhileItIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		h := &hydra{answer: canned{200, goodToken}, ready: canned{200, oryReady}}
		i := h.memory(t)
		_, _, err := i.Permission(t.Context(), "good")
		is.NoErr(err)
		h.mu.Lock()
		h.hold = make(chan struct{})
		h.mu.Unlock()
		for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(100 * time.Millisecond) {
			p, _, err := i.Permission(t.Context(), "good")
			is.NoErr(err)
			is.Equal(p, ory.Permitted)
		}
		is.True(h.questions() > 3 && h.questions() < 10) // one after each failure
		_, _, err = i.Permission(t.Context(), "good")
		is.Equal(fault.ReasonOf(err), fault.Timeout)
		close(h.hold)
	})
}

// TestPrincipalComesWithThePermission checks that whoever is let in has a principal, even if the
// answer is refreshed to a negative one at the same moment.
func TestPrincipalComesWithThePermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		h := &hydra{answer: canned{200, goodToken}, ready: canned{200, oryReady}}
		i := h.memory(t)
		p, principal, err := i.Permission(t.Context(), "good")
		is.NoErr(err)
		is.Equal(p, ory.Permitted)
		is.True(principal != "")
		h.set(canned{200, inactive}, canned{200, oryReady})
		time.Sleep(20 * time.Second) // until it is refreshed
		p, same, err := i.Permission(t.Context(), "good")
		is.NoErr(err)
		is.Equal(p, ory.Permitted)
		is.Equal(same, principal)
		synctest.Wait()
		p, none, err := i.Permission(t.Context(), "good")
		is.NoErr(err)
		is.Equal(p, ory.NotPermitted)
		is.Equal(none, "")
	})
}

// TestAFloodOfUnknownTokens checks that a flood of unknown tokens does not delay known ones or shut
// out new valid ones, and that Hydra's readiness is requested at most once per TTL.
func TestAFloodOfUnknownTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		h := &hydra{answer: canned{200, inactive}, ready: canned{200, oryReady}, good: "good", takes: 20 * time.Millisecond}
		i := h.memory(t)
		p, _, err := i.Permission(t.Context(), "good")
		is.NoErr(err)
		is.Equal(p, ory.Permitted)
		began := time.Now()
		var flood sync.WaitGroup
		for client := range 300 {
			flood.Go(func() {
				for n := 0; time.Since(began) < 5*time.Second; n++ {
					_, _, err := i.Permission(t.Context(), fmt.Sprint("made up ", client, " ", n))
					is.NoErr(err)
				}
			})
		}
		for n := 0; time.Since(began) < 5*time.Second; n++ {
			asked := time.Now()
			p, _, err := i.Permission(t.Context(), "good")
			is.NoErr(err)
			is.Equal(p, ory.Permitted)
			is.Equal(time.Since(asked), time.Duration(0)) // always from the cache
			p, _, err = i.Permission(t.Context(), fmt.Sprint("good and new ", n))
			is.NoErr(err)
			is.Equal(p, ory.Permitted)
			time.Sleep(100 * time.Millisecond)
		}
		flood.Wait()
		is.True(h.readinesses() <= 6)
	})
}
