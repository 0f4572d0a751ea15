package handler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
)

// fuzzed returns a function whose receivers never fail, and what its receiver of the
// type t got last.
func fuzzed(f *testing.F) (function, *event.Event) {
	fn, got := newFunction(f, func(c *config) { c.Environment = "dev" }), new(event.Event)
	if err := fn.On("t", func(_ context.Context, e event.Event) (*event.Event, error) {
		*got = e
		return &e, nil // which must be fit to be sent on
	}); err != nil {
		f.Fatal(err)
	}
	return fn, got
}

// post sends a request. Nothing may panic, wedge or answer 5xx, errors have one shape,
// and what a receiver gets is an event to the SDK, too.
func post(t *testing.T, fn function, got *event.Event, header http.Header, body []byte) int {
	*got = event.Event{}
	r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
	r.Header = header
	w := httptest.NewRecorder()
	fn.ServeHTTP(w, r)
	for line := range strings.Lines(fn.logs.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a log line that is no JSON: %s", line)
		}
	}
	fn.logs.Reset()
	switch {
	case w.Code >= 500:
		t.Errorf("%d %s", w.Code, w.Body)
	case w.Code >= 400 && !strings.HasPrefix(w.Body.String(), `{"error":"`):
		t.Errorf("an error of another shape: %d %s", w.Code, w.Body)
	case got.Context != nil:
		if err := got.Validate(); err != nil {
			t.Errorf("received %s: %v", got, err)
		}
	}
	return w.Code
}

// FuzzBinary sends anything at all to POST /: lines of headers, and a body.
func FuzzBinary(f *testing.F) {
	structured := "content-type: application/cloudevents+json"
	for _, seed := range []struct{ headers, body string }{
		{strings.Join(lines(event1()), "\n"), `{"message":"Hello World"}`},
		{strings.Join(lines(event1("Ce-Type", "t", "Ce-Subject", "caf%C3%A9", "Ce-Time", "2026-01-01T00:00:00Z")), "\n"), `[1,"\u00e9"]`},
		{strings.Join(lines(event1("Ce-", "x")), "\n"), ""},
		{strings.Join(lines(event1("Ce-Id", `"\"%41"`)), "\n"), "1"},
		{structured, `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","data":{}}`},
		{"content-type: application/json", `{"a":[1,{"b":null}]}`},
		{"content-type: application/cloudevents-batch+json", "[]"},
		{"content-encoding: gzip", "\x1f\x8b"},
	} {
		f.Add(seed.headers, []byte(seed.body))
	}
	fn, got := fuzzed(f)
	f.Fuzz(func(t *testing.T, headers string, body []byte) {
		header := make(http.Header)
		for line := range strings.Lines(headers) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			header.Add(name, strings.TrimSpace(value))
		}
		post(t, fn, got, header, body)
	})
}

// FuzzStructured sends anything at all as an event in structured mode.
func FuzzStructured(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"aGk=","datacontenttype":"text/plain"}`,
		`{"specversion":"1.0","id":"\ud83d\ude00","source":"urn:a","type":"t","subject":null,"time":"2026-01-01T00:00:00Z","a":-1,"b":true}`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","data_base64":1}`,
		`{"specversion":"1.0","id":"\ud800","source":"/s","type":"boson.fn","":1}`,
	} {
		f.Add([]byte(seed))
	}
	fn, got := fuzzed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if code := post(t, fn, got, http.Header{"Content-Type": {"application/cloudevents+json"}}, body); code < 300 && !json.Valid(body) {
			t.Errorf("%d for what is no JSON: %s", code, body)
		}
	})
}

func lines(header []string) []string {
	var lines []string
	for i := 0; i < len(header); i += 2 {
		lines = append(lines, header[i]+": "+header[i+1])
	}
	return lines
}
