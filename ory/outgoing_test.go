package ory_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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
)

// An issuer fakes Hydra's token endpoint and, on other paths, the called service. It is a
// transport, so that a test can run in a synctest bubble.
type issuer struct {
	life    time.Duration
	secret  string
	post    bool // the client is one of client_secret_post, not client_secret_basic
	takes   time.Duration
	answer  canned // response of the token endpoint, if it has a status
	refuses bool   // refuses every token

	mu     sync.Mutex
	forms  []string
	tokens map[string]time.Time // expiry of each token
	calls  []string
	bodies []string
}

const tokenURL = "http://hydra.test/oauth2/token"

func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	i.mu.Lock()
	takes := i.takes
	i.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	recorder := httptest.NewRecorder()
	i.mu.Lock()
	defer i.mu.Unlock()
	if req.URL.String() == tokenURL {
		i.issue(recorder, req)
	} else {
		i.call(recorder, req)
	}
	return recorder.Result(), nil
}

func (i *issuer) issue(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = r.ParseForm()
	i.forms = append(i.forms, r.PostForm.Encode())
	_, secret, _ := r.BasicAuth()
	if i.post {
		secret = r.PostForm.Get("client_secret")
	}
	switch {
	case i.answer.status != 0 && secret == i.secret:
		w.WriteHeader(i.answer.status)
		_, _ = io.WriteString(w, i.answer.body)
	case secret != i.secret:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"canary"}`)
	default:
		token := fmt.Sprint("ory_at_canary", len(i.forms))
		if i.tokens == nil {
			i.tokens = map[string]time.Time{}
		}
		i.tokens[token] = time.Now().Add(i.life)
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"bearer","expires_in":%d}`, token, int(i.life.Seconds()))
	}
}

func (i *issuer) call(w http.ResponseWriter, r *http.Request) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	i.calls = append(i.calls, r.URL.String())
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if i.refuses || !time.Now().Before(i.tokens[token]) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	i.bodies = append(i.bodies, string(body))
	if to := r.URL.Query().Get("to"); to != "" {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	}
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.forms)
}

// outgoing returns a client for http://other.test/api, and its log.
func (i *issuer) outgoing(t *testing.T, secret func() (string, error)) (*http.Client, *servertest.Logs) {
	t.Helper()
	is := is.New(t)
	logs := new(servertest.Logs)
	o, err := ory.NewOutgoing(ory.OutgoingConfig{
		TokenURL: tokenURL, Log: logs.Logger(),
		Credentials: func(context.Context) (string, string, error) {
			secret, err := secret()
			return "coffeebuddy", secret, err
		},
	})
	is.NoErr(err)
	ory.Replace(o, i)
	client, err := o.Client(ory.Target{BaseURL: "http://other.test/api/", Scopes: []string{"events", "x"}, Audience: "other", Transport: i})
	is.NoErr(err)
	return client, logs
}

// get sends a request with a timeout, and returns the status, or the reason for an error.
func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("an error shows what it must not: %v", err)
		}
		if _, ok := errors.AsType[*fault.Error](err); !ok {
			return "not sent"
		}
		return string(fault.ReasonOf(err))
	}
	defer resp.Body.Close()
	return fmt.Sprint(resp.StatusCode)
}

func always(secret string) func() (string, error) {
	return func() (string, error) { return secret, nil }
}

const target = "http://other.test/api/x?y=z"

func TestTokenIsFetchedOnFirstUseAndOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary", takes: 100 * time.Millisecond}
		client, logs := i.outgoing(t, always("canary"))
		is.Equal(i.fetches(), 0)
		var together sync.WaitGroup
		for range 20 {
			together.Go(func() { is.Equal(get(t, client, target), "200") })
		}
		together.Wait()
		is.Equal(i.forms, []string{"audience=other&grant_type=client_credentials&scope=events+x"})
		is.Equal(len(i.bodies), 20)
		is.Equal(i.bodies[0], "body")
		is.True(!strings.Contains(logs.String(), "canary"))
	})
}

// TestTokenIsFetchedAgain checks that a token in use is replaced at two thirds of its lifetime, in
// the background of a call and with the current secret, and that an unused token is not.
func TestTokenIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: 9 * time.Minute, secret: "canary1", takes: 100 * time.Millisecond}
		secret := "canary1"
		client, logs := i.outgoing(t, func() (string, error) { return secret, nil })
		is.Equal(get(t, client, target), "200")
		for began := time.Now(); time.Since(began) < time.Hour; time.Sleep(time.Second) {
			switch since := time.Since(began); {
			case since > 31*time.Minute:
				secret = "canary2"
			case since > 30*time.Minute: // Hydra gets the new secret before Vault does
				i.set(func() { i.secret = "canary2" })
			}
			asked := time.Now()
			is.Equal(get(t, client, target), "200")
			is.Equal(time.Since(asked), 100*time.Millisecond) // no call waits for a token
		}
		n := i.fetches()
		is.True(n >= 10 && n <= 30) // n
		is.True(!strings.Contains(logs.String(), "canary"))
		time.Sleep(time.Hour)
		is.Equal(i.fetches(), n)
		is.Equal(get(t, client, target), "200")
	})
}

func TestCallAfterA401(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary"}
		client, _ := i.outgoing(t, always("canary"))
		is.Equal(get(t, client, target), "200")
		i.set(func() { i.tokens = nil }) // Hydra lost its database
		is.Equal(get(t, client, target), "200")
		is.Equal(i.fetches(), 2)
		is.Equal(i.bodies, []string{"body", "body"}) // resent in full

		time.Sleep(time.Minute)
		i.set(func() { i.refuses = true })
		for range 600 {
			is.Equal(get(t, client, target), "401")
			time.Sleep(time.Second)
		}
		is.True(i.fetches() < 30) // a service that refuses every token causes few token requests

		i.set(func() { i.refuses = false })
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, io.MultiReader(strings.NewReader("once")))
		is.NoErr(err)
		time.Sleep(time.Minute)
		i.set(func() { i.tokens = nil })
		resp, err := client.Do(req)
		is.NoErr(err)
		resp.Body.Close()
		is.Equal(resp.StatusCode, 401) // its body cannot be resent
		is.Equal(get(t, client, target), "200")
	})
}

// A counted body counts the open bodies of its kind.
type counted struct {
	io.Reader
	open *int
}

func (c counted) Close() error { *c.open--; return nil }

// TestBodiesAreClosed checks that a body which is opened to resend a request is closed, whether or
// not the request is resent.
func TestBodiesAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary", refuses: true}
		client, _ := i.outgoing(t, always("canary"))
		open := 0
		body := func() (io.ReadCloser, error) { open++; return counted{strings.NewReader("body"), &open}, nil }
		for range 20 { // the first is resent; then there is a pause
			sent, _ := body()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, sent)
			is.NoErr(err)
			req.GetBody = body
			resp, err := client.Do(req)
			is.NoErr(err)
			resp.Body.Close()
			is.Equal(resp.StatusCode, http.StatusUnauthorized)
		}
		is.Equal(len(i.calls), 21)
		is.Equal(open, 0)
	})
}

// TestHydraIsAway checks that a call fails with the reason before its deadline, and only while
// Hydra is unavailable.
func TestHydraIsAway(t *testing.T) {
	for _, test := range []struct {
		answer canned
		want   string
		log    string
	}{
		{canned{503, "canary"}, "unavailable", "status 503"},
		{canned{502, "<html>canary"}, "unavailable", "status 502"},
		{canned{404, "canary"}, "misconfigured", "no token endpoint"},
		{canned{400, `{"error":"invalid_scope","error_description":"canary"}`}, "denied", "scope"},
		{canned{400, `{"error":"invalid_request","error_description":"canary"}`}, "denied", "audience"},
		{canned{401, `{"error":"invalid_client"}`}, "denied", "client id or its secret"},
		{canned{403, "canary"}, "denied", "refuses the client"},
		{canned{200, "canary"}, "bad_response", "bearer token"},
		{canned{200, `{"token_type":"bearer"}`}, "bad_response", "bearer token"},
		{canned{200, `{"access_token":"canary","token_type":"mac"}`}, "bad_response", "bearer token"},
		{canned{200, `{"access_token":"cana\nry","token_type":"bearer"}`}, "bad_response", "bearer token"},
		{canned{200, `{"access_token":"canary","token_type":"bearer","expires_in":-1}`}, "bad_response", "bearer token"},
	} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			i := &issuer{life: time.Hour, secret: "canary", answer: test.answer}
			client, logs := i.outgoing(t, always("canary"))
			for began := time.Now(); time.Since(began) < time.Minute; {
				asked := time.Now()
				is.Equal(get(t, client, target), test.want)
				is.True(time.Since(asked) < 2*time.Second)
			}
			limit := 125 // two a second
			if strings.Contains(test.answer.body, "invalid_client") {
				limit *= 2 // each tried with both authentication styles
			}
			is.True(i.fetches() <= limit)
			is.Equal(strings.Count(logs.String(), "no access token"), 1)
			is.True(strings.Contains(logs.String(), test.log))
			is.True(!strings.Contains(logs.String(), "canary"))
			i.set(func() { i.answer = canned{} })
			is.Equal(get(t, client, target), "200") // immediately
			is.Equal(strings.Count(logs.String(), "again"), 1)
		})
	}
}

// TestManyCallersFetchTwiceASecond checks that callers whose pause ends at the same time share a
// fetch, even where it fails before the last of them has woken.
func TestManyCallersFetchTwiceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary", answer: canned{503, ""}}
		client, _ := i.outgoing(t, always("canary"))
		var callers sync.WaitGroup
		for began, n := time.Now(), 0; n < 60; n++ {
			callers.Go(func() {
				for time.Since(began) < 3*time.Second {
					is.Equal(get(t, client, target), "unavailable")
				}
			})
		}
		callers.Wait()
		is.True(i.fetches() <= 8) // two a second
	})
}

// TestFetchFromBeforeHydraWasBack checks that a call which joins a fetch that hangs since before
// waits for the next one.
func TestFetchFromBeforeHydraWasBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary", takes: time.Hour}
		client, _ := i.outgoing(t, always("canary"))
		is.Equal(get(t, client, target), "timeout") // its fetch goes on
		i.set(func() { i.takes = time.Millisecond })
		time.Sleep(2 * time.Second)
		is.Equal(get(t, client, target), "200")
	})
}

// TestPauseEndsWithTheToken checks that no call fails if Hydra is back just before the old token
// ends, however long the pause between the fetches was by then.
func TestPauseEndsWithTheToken(t *testing.T) {
	for _, away := range []time.Duration{110 * time.Second, 115 * time.Second, 2 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			i := &issuer{life: time.Hour, secret: "canary", takes: time.Millisecond}
			client, _ := i.outgoing(t, always("canary"))
			began := time.Now()
			is.Equal(get(t, client, target), "200")
			time.Sleep(time.Hour - away)
			i.set(func() { i.answer = canned{503, ""} })
			for time.Since(began) < time.Hour+20*time.Second {
				if time.Since(began) > time.Hour-time.Second {
					i.set(func() { i.answer = canned{} })
				}
				is.Equal(get(t, client, target), "200")
				time.Sleep(199 * time.Millisecond)
			}
		})
	}
}

// TestWhereTheSecretGoes checks that it goes where the client's authentication method has it, even
// after that has changed, and that the second way is tried only after a refusal of the client.
func TestWhereTheSecretGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary"}
		client, _ := i.outgoing(t, always("canary"))
		for _, test := range []struct {
			post    bool
			fetches int
		}{{false, 1}, {true, 2}, {true, 1}, {false, 2}, {false, 1}} {
			i.set(func() { i.post, i.forms = test.post, nil })
			is.Equal(get(t, client, target), "200")
			is.Equal(i.fetches(), test.fetches)
			time.Sleep(2 * time.Hour)
		}
		i.set(func() { i.forms, i.answer = nil, canned{400, `{"error":"invalid_scope"}`} })
		is.Equal(get(t, client, target), "denied")
		is.Equal(i.fetches(), 1)
	})
}

func TestHydraHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary", takes: time.Hour}
		client, _ := i.outgoing(t, always("canary"))
		asked := time.Now()
		is.Equal(get(t, client, target), "timeout")
		is.Equal(time.Since(asked), 2*time.Second) // the caller's deadline
		time.Sleep(time.Minute)                    // lets the fetch end too
	})
}

func TestCredentialsThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary"}
		err := fault.New(fault.Sealed, "Vault is sealed")
		client, logs := i.outgoing(t, func() (string, error) { return "canary", err })
		is.Equal(get(t, client, target), "sealed")
		is.Equal(i.fetches(), 0)
		is.True(strings.Contains(logs.String(), "credentials cannot be read"))
		err = nil
		is.Equal(get(t, client, target), "200")
	})
}

// TestTokenGoesNowhereElse checks that neither a request nor a redirect sends the token outside the
// target.
func TestTokenGoesNowhereElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		i := &issuer{life: time.Hour, secret: "canary"}
		client, _ := i.outgoing(t, always("canary"))
		elsewhere := []string{
			"https://other.test/api/x", "http://other.test:8080/api/x", "http://another.test/api/x", "http://other.test.evil/api/x",
			"http://other.test/", "http://other.test/apix", "http://other.test/api/../x", "http://other.test/api/%2e%2e/x",
			"http://other.test/api/..%2fx", "http://other.test/api/%2E./x", `http://other.test/api/..\x`, "http://other.test/api/..;/x",
			"http://other.test/api/%252e%252e/x", "http://user@other.test/api/x", "http://other.test@evil.test/api/x",
		}
		for _, url := range append(elsewhere, "http://other.test/x/../api") { // net/http cleans the path of a redirect to /api
			is.Equal(get(t, client, url), "not sent") // url
		}
		is.Equal(len(i.calls)+i.fetches(), 0)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
		is.NoErr(err)
		req.Host = "evil.test"
		_, err = client.Do(req)
		is.True(err != nil)

		for _, url := range []string{"http://other.test/api", "http://other.test/api/", "http://OTHER.test:80/api/x", "http://other.test/api/a%20b?c=../d"} {
			is.Equal(get(t, client, url), "200") // url
		}
		for _, to := range elsewhere {
			i.set(func() { i.calls = nil })
			is.Equal(get(t, client, "http://other.test/api/?to="+escape(to)), "not sent") // to
			is.Equal(len(i.calls), 1)
		}
		is.Equal(get(t, client, "http://other.test/api/?to=/api/there"), "200")
		is.Equal(get(t, client, "http://other.test/api/?to="+escape("http://other.test/api/?to=/")), "not sent")
	})
}

func escape(text string) string {
	return strings.NewReplacer("%", "%25", "&", "%26", "?", "%3F", "#", "%23", ";", "%3B").Replace(text)
}

// TestTokenEndpointThatRedirects checks that a redirect of the token endpoint gets no secret.
func TestTokenEndpointThatRedirects(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		dump, _ := httputil.DumpRequest(r, true)
		t.Errorf("sent there: %s", dump)
	}))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	o, err := ory.NewOutgoing(ory.OutgoingConfig{
		TokenURL:    server.URL,
		Credentials: func(context.Context) (string, string, error) { return "canary", "canary", nil },
	})
	is.NoErr(err)
	client, err := o.Client(ory.Target{BaseURL: "http://127.0.0.1:1"})
	is.NoErr(err)
	is.Equal(get(t, client, "http://127.0.0.1:1/"), "bad_response")
}

func TestOutgoingConfigs(t *testing.T) {
	t.Parallel()
	credentials := func(context.Context) (string, string, error) { return "", "", nil }
	for _, config := range []ory.OutgoingConfig{
		{},
		{TokenURL: tokenURL},
		{Credentials: credentials},
		{TokenURL: "hydra.test/token", Credentials: credentials},
		{TokenURL: "http://canary:canary@hydra.test", Credentials: credentials},
	} {
		_, err := ory.NewOutgoing(config)
		is.New(t).True(err != nil && !strings.Contains(err.Error(), "canary"))
	}
	_, err := (*ory.Outgoing)(nil).Client(ory.Target{BaseURL: "http://other.test"})
	is.New(t).True(err != nil)
	o, err := ory.NewOutgoing(ory.OutgoingConfig{TokenURL: tokenURL, Credentials: credentials})
	is.New(t).NoErr(err)
	for _, base := range []string{"", "other.test", "ftp://other.test", "http://", "http://canary@other.test", "http://other.test?canary", "http://other.test/a/../b", "http://other.test/%zz"} {
		_, err := o.Client(ory.Target{BaseURL: base})
		is.New(t).True(err != nil && !strings.Contains(err.Error(), "canary")) // base
	}
}
