package handler_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// guarded is a function whose events need the scope "events". What a token may do is
// its name.
func guarded(t *testing.T, asked *[]string) function {
	return newFunction(t, func(c *config) {
		c.EventsScope = "events"
		c.Authorize = func(_ context.Context, token string) (handler.Authorization, string) {
			*asked = append(*asked, token)
			return map[string]handler.Authorization{
				"good": handler.Authorized, "other": handler.Authorized, "bad": handler.InvalidToken, "narrow": handler.InsufficientScope,
			}[strings.TrimRight(token, "=")], token
		}
	})
}

const (
	challenged   = `Bearer realm="coffeebuddy", scope="events"`
	invalid      = `Bearer realm="coffeebuddy", error="invalid_token", scope="events"`
	insufficient = `Bearer realm="coffeebuddy", error="insufficient_scope", scope="events"`
)

func TestAuthorization(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 8<<10+1)
	for _, test := range []struct {
		when          string
		authorization []string
		code          int
		challenge     string
		asked         string
	}{
		{"a good token", []string{"Bearer good"}, 200, "", "good"},
		{"a scheme in small letters", []string{"bearer good"}, 200, "", "good"},
		{"a scheme in capitals", []string{"BEARER good"}, 200, "", "good"},
		{"more than one space", []string{"Bearer   good"}, 200, "", "good"},
		{"padding", []string{"Bearer good=="}, 200, "", "good=="},
		{"a bad token", []string{"Bearer bad"}, 401, invalid, "bad"},
		{"one without the scope", []string{"Bearer narrow"}, 403, insufficient, "narrow"},
		{"one that nobody can be asked about", []string{"Bearer unknown"}, 503, "", "unknown"},

		{"nothing", nil, 401, challenged, ""},
		{"an empty header", []string{""}, 401, challenged, ""},
		{"another scheme", []string{"Basic Z29vZDpnb29k"}, 401, challenged, ""},
		{"a scheme that only starts so", []string{"BearerX good"}, 401, challenged, ""},
		{"a token alone", []string{"good"}, 401, challenged, ""},

		{"no token", []string{"Bearer"}, 401, invalid, ""},
		{"no token after a space", []string{"Bearer "}, 401, invalid, ""},
		{"padding alone", []string{"Bearer =="}, 401, invalid, ""},
		{"two tokens", []string{"Bearer good good"}, 401, invalid, ""},
		{"a list", []string{"Bearer good, Bearer good"}, 401, invalid, ""},
		{"two headers", []string{"Bearer good", "Bearer good"}, 401, invalid, ""},
		{"two headers of two schemes", []string{"Basic Z29vZDpnb29k", "Bearer good"}, 401, invalid, ""},
		{"a tab", []string{"Bearer\tgood"}, 401, challenged, ""},
		{"a tab in it", []string{"Bearer good\tx"}, 401, invalid, ""},
		{"a control character", []string{"Bearer good\x01"}, 401, invalid, ""},
		{"a quotation mark", []string{`Bearer "good"`}, 401, invalid, ""},
		{"another alphabet", []string{"Bearer gööd"}, 401, invalid, ""},
		{"padding in the middle", []string{"Bearer go=od"}, 401, invalid, ""},
		{"the longest", []string{"Bearer " + long[1:]}, 503, "", long[1:]},
		{"one that is longer", []string{"Bearer " + long}, 401, invalid, ""},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var asked []string
			f := guarded(t, &asked)
			header := []string{"Content-Type", "application/json"}
			for _, a := range test.authorization {
				header = append(header, "Authorization", a)
			}
			w := f.ask("POST", "/", "{}", header...)
			is.Equal(w.Code, test.code)
			is.Equal(w.Header().Get("WWW-Authenticate"), test.challenge)
			is.Equal(strings.Join(asked, "|"), test.asked)
			switch test.code {
			case 401, 403:
				is.Equal(w.Body.String(), `{"error":"unauthorized"}`+"\n")
				is.Equal(f.series(`coffeebuddy_events_total{outcome="unauthorized"}`), "1")
				is.Equal(w.Header().Get("Retry-After"), "")
			case 503:
				is.Equal(w.Body.String(), `{"error":"retry"}`+"\n")
				is.Equal(f.series(`coffeebuddy_events_total{outcome="retry"}`), "1")
				is.Equal(w.Header().Get("Retry-After"), "1")
			}
			is.True(!strings.Contains(f.logs.String(), "good") && !strings.Contains(w.Body.String(), "good"))
		})
	}
}

// TestAuthorizationComesBeforeAllElse that is wrong with an event, and before its body.
func TestAuthorizationComesBeforeAllElse(t *testing.T) {
	t.Parallel()
	var asked []string
	f := guarded(t, &asked)
	server := httptest.NewServer(f)
	defer server.Close()
	for token, want := range map[string]int{"bad": 401, "narrow": 403, "unknown": 503} {
		for _, contentType := range []string{"application/json", "text/plain", "application/cloudevents-batch+json"} {
			is := is.New(t)
			body, sender := io.Pipe() // from which nothing ever comes
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
			is.NoErr(err)
			req.Header.Set("Content-Type", contentType)
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := server.Client().Do(req)
			is.NoErr(err)
			resp.Body.Close()
			sender.Close()
			is.Equal(resp.StatusCode, want)
		}
	}
}

// TestAuthorizationTakesNoPlace: who waits to be asked about keeps nobody out who may
// send.
func TestAuthorizationTakesNoPlace(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	waiting, answer := make(chan struct{}), make(chan struct{})
	f := newFunction(t, func(c *config) {
		c.EventsInFlight = 1
		c.EventsScope = "events"
		c.Authorize = func(_ context.Context, token string) (handler.Authorization, string) {
			if token == "good" {
				return handler.Authorized, ""
			}
			waiting <- struct{}{}
			<-answer
			return handler.InvalidToken, ""
		}
	})
	send := func(token string) int {
		return f.ask("POST", "/", "{}", "Content-Type", "application/json", "Authorization", "Bearer "+token).Code
	}
	codes := make(chan int, 3)
	for range 3 {
		go func() { codes <- send("bad") }()
		<-waiting
	}
	is.Equal(send("good"), 200)
	close(answer)
	for range 3 {
		is.Equal(<-codes, 401)
	}
}

// TestSlowAuthorizationTakesNoTimeFromTheBody: the deadlines of a body count from when it is read.
func TestSlowAuthorizationTakesNoTimeFromTheBody(t *testing.T) {
	t.Parallel()
	for when, expect := range map[string]string{"it follows its header": "", "it is asked for": "Expect: 100-continue\r\n"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				conn := serve(t, newFunction(t, func(c *config) {
					c.EventsScope = "events"
					c.Authorize = func(context.Context, string) (handler.Authorization, string) {
						time.Sleep(2 * time.Second)
						return handler.Authorized, ""
					}
				}))
				_, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n"+
					"Content-Type: application/json\r\nContent-Length: 2\r\n"+expect+"\r\n")
				is.NoErr(err)
				responses := bufio.NewReader(conn)
				if expect != "" {
					resp, err := http.ReadResponse(responses, nil)
					is.NoErr(err)
					is.Equal(resp.StatusCode, 100)
				}
				var sender sync.WaitGroup
				defer sender.Wait()
				defer conn.Close()
				sender.Go(func() {
					_, _ = io.WriteString(conn, "{")
					time.Sleep(4 * time.Second) // of the five that it may be behind
					_, _ = io.WriteString(conn, "}")
				})
				resp, err := http.ReadResponse(responses, nil)
				is.NoErr(err)
				is.Equal(resp.StatusCode, 200)
			})
		})
	}
}

func TestWhatNeedsNoToken(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var asked []string
	f := guarded(t, &asked)
	for _, path := range []string{"/health/live", "/health/ready", "/metrics"} {
		is.Equal(f.ask("GET", path, "").Code, 200) // path
	}
	is.Equal(f.ask("GET", "/", "").Code, 405)
	is.Equal(f.ask("POST", "/nowhere", "").Code, 404)
	e := event.New()
	e.SetType("boson.fn")
	is.True(f.Dispatch(t.Context(), e).Reply != nil) // the caller of Dispatch has verified the sender
	is.Equal(len(asked), 0)
}

// TestScopeLetsSlackTypesIn: who has it is as trusted as the Slack routes.
func TestScopeLetsSlackTypesIn(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var asked []string
	open, closed := newFunction(t), guarded(t, &asked)
	for _, f := range []function{open, closed} {
		is.NoErr(f.On("com.slack.command", func(context.Context, event.Event) (*event.Event, error) { return nil, nil }))
	}
	command := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/x", "Ce-Type", "com.slack.command"}
	is.Equal(open.ask("POST", "/", "", append(command, "Authorization", "Bearer good")...).Code, 422) // nobody has verified it
	is.Equal(closed.ask("POST", "/", "", command...).Code, 401)
	is.Equal(closed.ask("POST", "/", "", append(command, "Authorization", "Bearer good")...).Code, 204)
}

// FuzzBearer sends any credentials: what is asked about is a token, and never logged.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer good", "bearer  a=", "Basic eA==", "Bearer a, b", "Bearer\t", "Bearer \x80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, credentials string) {
		var asked []string
		function := guarded(t, &asked)
		code := function.ask("POST", "/", "{}", "Content-Type", "application/json", "Authorization", credentials).Code
		if len(asked) == 0 && code != 401 {
			t.Errorf("%d without a question", code)
		}
		for _, token := range asked {
			if token == "" || strings.ContainsAny(token, "\t \",;\x7f") || strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("asked about %q", token)
			}
		}
	})
}
