package checks_test

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

	"coffeebuddy/checks"

	"github.com/matryer/is"
	ory "github.com/ory/client-go"
)

const introspectPath = "/admin/oauth2/introspect"

// hydra plays Ory Hydra's admin API.
type hydra struct {
	mu       sync.Mutex
	answer   canned
	ready    canned
	asked    int
	requests []string
	hold     chan struct{} // if it is not nil, an introspection waits for it
}

const (
	goodToken = `{"active":true,"scope":"openid events","client_id":"c","exp":4102444800,"token_use":"access_token","token_type":"Bearer","aud":[]}`
	inactive  = `{"active":false}`
	oryReady  = `{"status":"ok"}`
)

func (h *hydra) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	dump, _ := httputil.DumpRequest(r, true)
	h.requests = append(h.requests, string(dump))
	answer, hold := h.ready, h.hold
	if strings.HasSuffix(r.URL.Path, introspectPath) {
		h.asked++
		answer = h.answer
	} else {
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

func introspection(base string, logs *logBuffer) *checks.Introspection {
	return checks.NewIntrospection(checks.IntrospectionConfig{
		BaseURL: base, Scope: "events", Audience: "coffeebuddy", Timeout: time.Second, Log: logs.logger(),
	})
}

// permission asks about the token "canary".
func permission(t *testing.T, i *checks.Introspection) (checks.Permission, checks.Reason) {
	t.Helper()
	p, err := i.Permission(t.Context(), "canary")
	if err != nil && strings.Contains(err.Error(), "canary") {
		t.Errorf("an error shows what it must not: %v", err)
	}
	return p, checks.ReasonOf(err)
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	active := func(fields string) canned { return canned{200, `{"active":true` + fields + `}`} }
	up := canned{200, oryReady}
	for _, test := range []struct {
		when          string
		answer, ready canned
		want          checks.Permission
		reason        checks.Reason
	}{
		{"a good token", canned{200, goodToken}, up, checks.Permitted, ""},
		{"the scope alone", active(`,"scope":"events"`), up, checks.Permitted, ""},
		{"fields that are new", active(`,"scope":"events","new":{"x":[1]}`), up, checks.Permitted, ""},
		{"this audience among others", active(`,"scope":"events","aud":["x","coffeebuddy"]`), up, checks.Permitted, ""},

		{"one that is inactive", canned{200, inactive}, up, checks.NotPermitted, ""},
		{"a refresh token", active(`,"scope":"events","token_use":"refresh_token"`), up, checks.NotPermitted, ""},
		{"another audience", active(`,"scope":"events","aud":["coffeebuddy2"]`), up, checks.NotPermitted, ""},
		{"another scope", active(`,"scope":"events.read event"`), up, checks.LacksScope, ""},
		{"a scope in capitals", active(`,"scope":"EVENTS"`), up, checks.LacksScope, ""},
		{"no scope", active(``), up, checks.LacksScope, ""},

		{"inactive, by a Hydra without its database", canned{200, inactive}, canned{503, `{}`}, checks.NotPermitted, checks.ReasonUnavailable},
		{"inactive, by something that is no Hydra", canned{200, inactive}, canned{200, "<html>"}, checks.NotPermitted, checks.ReasonBadResponse},
		{"a good token, by a Hydra that is not ready", canned{200, goodToken}, canned{503, `{}`}, checks.Permitted, ""},

		{"an error", canned{500, `{"error":"canary"}`}, up, checks.NotPermitted, checks.ReasonUnavailable},
		{"a proxy's 401", canned{401, inactive}, up, checks.NotPermitted, checks.ReasonUnavailable},
		{"Hydra's public API", canned{404, ""}, up, checks.NotPermitted, checks.ReasonUnavailable},
		{"another success", canned{201, goodToken}, up, checks.NotPermitted, checks.ReasonUnavailable},
		{"HTML", canned{200, "<html>canary</html>"}, up, checks.NotPermitted, checks.ReasonBadResponse},
		{"nothing", canned{200, ""}, up, checks.NotPermitted, checks.ReasonBadResponse},
		{"an empty object", canned{200, "{}"}, up, checks.NotPermitted, checks.ReasonBadResponse},
		{"a word for a boolean", canned{200, `{"active":"true","scope":"events"}`}, up, checks.NotPermitted, checks.ReasonBadResponse},
		{"two texts", canned{200, goodToken + goodToken}, up, checks.NotPermitted, checks.ReasonBadResponse},
		{"null", canned{200, "null"}, up, checks.NotPermitted, checks.ReasonBadResponse},
		{"over 64 KiB", active(`,"scope":"` + strings.Repeat("x ", 32<<10) + `events"`), up, checks.NotPermitted, checks.ReasonBadResponse},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			played := &hydra{answer: test.answer, ready: test.ready}
			server := httptest.NewServer(played)
			defer server.Close()
			var logs logBuffer
			p, reason := permission(t, introspection(server.URL+"/ory//", &logs))
			is.Equal(p, test.want)
			is.Equal(reason, test.reason)
			is.Equal(strings.Contains(logs.String(), `"reason"`), test.reason != "")
			is.True(!strings.Contains(logs.String(), "canary"))
			is.True(strings.HasPrefix(played.requests[0], "POST /ory/admin/oauth2/introspect HTTP/1.1\r\n"))
		})
	}
}

// TestIntrospectionIsClientGosOwn compares what is sent, and what is understood, with
// the call of client-go that is not linked into the function.
func TestIntrospectionIsClientGosOwn(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	played := &hydra{answer: canned{200, goodToken}}
	server := httptest.NewServer(played)
	defer server.Close()
	const token = "ory_at_-._~+/x=="
	_, err := introspection(server.URL, new(logBuffer)).Permission(t.Context(), token)
	is.NoErr(err)
	_, _, err = ory.NewAPIClient(checks.NewOry(server.URL).Configuration()).OAuth2API.IntrospectOAuth2Token(t.Context()).Token(token).Execute()
	is.NoErr(err)
	is.Equal(len(played.requests), 2)
	ours := played.requests[0]
	theirs := strings.Replace(played.requests[1], "Connection: close\r\n", "", 1) // ours is kept
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
		want      checks.Reason
	}{
		{"nothing listens", "http://127.0.0.1:1", checks.ReasonRefused},
		{"it hangs", handWritten(t, hang), checks.ReasonTimeout},
		{"it closes without an answer", handWritten(t, after("")), checks.ReasonRefused},
		{"it echoes the request", handWritten(t, after("HTTP/1.1 200 OK\r\ntoken canary\r\n\r\n")), checks.ReasonBadResponse},
		{"it points to another host", elsewhere.URL, checks.ReasonBadResponse},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var logs logBuffer
			i := introspection(test.url, &logs)
			for range 3 {
				p, reason := permission(t, i)
				is.Equal(p, checks.NotPermitted)
				is.Equal(reason, test.want)
			}
			is.Equal(strings.Count(logs.String(), "cannot be asked"), 1)
			is.Equal(i.Answers(), 0) // no answer, nothing to keep
		})
	}
}

// TestIntrospectionOnKeptConnections: hundreds a second need no connection each, and
// one that the server has closed meanwhile is no failure.
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
	i := introspection(server.URL, new(logBuffer))
	for n := range 50 {
		_, err := i.Permission(t.Context(), fmt.Sprint("token", n))
		is.NoErr(err)
	}
	mu.Lock()
	is.Equal(opened, 1)
	mu.Unlock()
	for n := range 50 {
		server.CloseClientConnections()
		_, err := i.Permission(t.Context(), fmt.Sprint("another", n))
		is.NoErr(err)
	}
}

// memory connects an Introspection to a played Hydra without a network, for tests on
// a clock of their own.
func (h *hydra) memory(t *testing.T) *checks.Introspection {
	i := introspection("http://hydra.test", new(logBuffer))
	closeIdle := checks.DialIntrospection(i, func() net.Conn {
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

// TestAnswersAreKept asks twice a second, and counts the questions that reach Hydra in
// two minutes.
func TestAnswersAreKept(t *testing.T) {
	for _, test := range []struct {
		when      string
		answer    string
		questions int
	}{
		{"a good token: 30 s", goodToken, 4},
		{"a bad one: 2 s", inactive, 60},
		{"one without the scope: 2 s", `{"active":true}`, 60},
		{"one that expires in 10 s: until then", "10", 12},
		{"one that expires in 40 s: 30 s", "40", 4},
		{"one that has expired by our clock: not at all", "-5", 240},
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
					_, err := i.Permission(t.Context(), "canary")
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
			_, err := i.Permission(impatient, "canary")
			is.Equal(checks.ReasonOf(err), checks.ReasonTimeout) // who leaves has no answer
		})
		synctest.Wait() // until he has asked
		for range 100 {
			waiting.Go(func() {
				p, err := i.Permission(t.Context(), "canary")
				is.NoErr(err)
				is.Equal(p, checks.Permitted)
			})
		}
		synctest.Wait()
		leave() // he asked first, and the others still get theirs
		synctest.Wait()
		close(h.hold)
		waiting.Wait()
		is.Equal(h.questions(), 1)
	})
}

// TestQuestionsAreBounded in their number under way, on their connections, and in
// their answers that are kept.
func TestQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		h := &hydra{answer: canned{200, goodToken}, ready: canned{200, oryReady}, hold: make(chan struct{})}
		i := h.memory(t)
		var waiting sync.WaitGroup
		ask := func(token string) {
			waiting.Go(func() { _, _ = i.Permission(t.Context(), token) })
		}
		for n := range 128 {
			ask(fmt.Sprint("first", n))
		}
		synctest.Wait()
		is.Equal(h.questions(), 16)
		_, err := i.Permission(t.Context(), "one more")
		is.Equal(checks.ReasonOf(err), checks.ReasonUnavailable) // at once: the clock has not moved
		close(h.hold)
		waiting.Wait()

		_, err = i.Permission(t.Context(), "good")
		is.NoErr(err)
		h.set(canned{200, inactive}, canned{200, oryReady})
		for n := range 5000 { // within their 2 s: the clock does not move
			_, err := i.Permission(t.Context(), fmt.Sprint("bad", n))
			is.NoErr(err)
		}
		is.Equal(i.Answers(), 4096)
		before := h.questions()
		p, err := i.Permission(t.Context(), "good")
		is.NoErr(err)
		is.Equal(p, checks.Permitted)
		is.Equal(h.questions(), before) // bad ones have not pushed it out

		h.set(canned{200, goodToken}, canned{200, oryReady})
		_, err = i.Permission(t.Context(), "newcomer") // a good one finds room
		is.NoErr(err)
		before = h.questions()
		_, err = i.Permission(t.Context(), "newcomer")
		is.NoErr(err)
		is.Equal(h.questions(), before)
		is.Equal(i.Answers(), 4096)

		time.Sleep(3 * time.Second) // which ends the bad ones
		_, err = i.Permission(t.Context(), "last")
		is.NoErr(err)
		is.True(i.Answers() < 200)
	})
}
