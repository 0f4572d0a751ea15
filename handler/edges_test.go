package handler_test

import (
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler/handlertest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// A deadlines records the deadlines that are set on a connection.
type deadlines struct {
	*httptest.ResponseRecorder
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error { d.set++; return nil }

// TestWithoutABodyNothingIsWaitedFor: a deadline would end net/http's watch for the sender to leave, and the receiver with it.
func TestWithoutABodyNothingIsWaitedFor(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{"": false, "1": true} {
		is := is.New(t)
		f := newFunction(t)
		is.NoErr(f.On("coffee.ordered", answering(nil, nil)))
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		headers := event1("Ce-Type", "coffee.ordered")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		f.ServeHTTP(w, r)
		is.Equal(w.Code, 204)
		is.Equal(w.set > 0, want)
	}
}

func TestNoContentTypeIsGuessedForAReply(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	plain := event.New()
	plain.SetType("coffee.served")
	plain.DataEncoded = []byte(`{"a":1}`)
	f := newFunction(t)
	is.NoErr(f.On("coffee.ordered", answering(&plain, nil)))
	server := httptest.NewServer(f)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, http.NoBody)
	is.NoErr(err)
	r.Header = http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"coffee.ordered"}}
	resp, err := server.Client().Do(r)
	is.NoErr(err)
	is.NoErr(resp.Body.Close())
	is.Equal(resp.StatusCode, 200)
	is.Equal(resp.Header["Content-Type"], nil)

	kit := handlertest.New(t, func(h *events.Events) error { return h.On("coffee.ordered", answering(&plain, nil)) })
	is.Equal(kit.Send(handlertest.Event("coffee.ordered", "")).Reply.DataContentType(), "") // the kit sees what is sent
}

func TestEchoAtTheLimitIsNoFailure(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	deep := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	w := f.ask("POST", "/", deep, event1("Ce-Type", "boson.fn", "Content-Type", "application/json")...)
	is.Equal(w.Code, 200)
	is.True(strings.Contains(w.Body.String(), `{"message":"[[[`)) // as text, which is no deeper
}

func TestAnEscapedVersionIsTheSame(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.NoErr(f.On("coffee.ordered", answering(nil, nil)))
	w := f.ask("POST", "/", `{"specversion":"1\u002e0","id":"1","source":"/s","type":"coffee.ordered"}`, "Content-Type", "application/cloudevents+json")
	is.Equal(w.Code, 204)
}

// TestSourcesOfWhichNothingIsLeft: the receiver would see none.
func TestSourcesOfWhichNothingIsLeft(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"#", "//"} {
		is := is.New(t)
		f := newFunction(t)
		is.NoErr(f.On("coffee.ordered", answering(nil, nil)))
		w := f.order("1", "Ce-Source", source)
		is.Equal(w.Code, 400)
		is.Equal(w.Body.String(), `{"error":"malformed","attribute":"source"}`+"\n")
	}
}

func TestRetryAfterTheLongestTime(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.NoErr(f.On("coffee.ordered", answering(nil, events.RetryAfter(math.MaxInt64, context.Canceled))))
	is.Equal(f.order("1").Header().Get("Retry-After"), "9223372037")
}

func TestAnInvalidReplyIsLogged(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	canary := event.New()
	canary.SetSource("/canary")
	is.NoErr(f.On("coffee.ordered", answering(&canary, nil)))
	is.Equal(f.order("1").Code, 500)
	found := false
	for _, line := range f.logs.Lines(t) {
		if line["msg"] == "a reply is no valid event" {
			found = line["attribute"] == "type" && line["request_id"] != nil
		}
	}
	is.True(found)
	is.True(!strings.Contains(f.logs.String(), "canary"))
}

func TestSourceIsLoggedWithoutSecrets(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"https://me:canary@example.com/a/b?token=canary": "https://example.com/a/b",
		"//me:canary@example.com":                        "//example.com",
		"/a/b?canary":                                    "/a/b",
		"https://example.com/a#access_token=canary":      "https://example.com/a",
		"https:me:canary@example.com/a":                  "https:example.com/a",
		"/proxy/https://me:canary@example.com/a":         "/proxy/https://example.com/a",
		"urn:uuid:1":                                     "urn:uuid:1",
		"mailto:me@example.com":                          "mailto:me@example.com",
		"/@me/a":                                         "/@me/a",
		"https://example.com/a@b//c":                     "https://example.com/a@b//c",
	} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			f := newFunction(t)
			is.NoErr(f.On("coffee.ordered", answering(nil, nil)))
			is.Equal(f.order("1", "Ce-Source", source).Code, 204)
			lines := f.logs.Lines(t)
			is.Equal(lines[len(lines)-1]["event_source"], want)
			is.True(!strings.Contains(f.logs.String(), "canary"))
		})
	}
}
