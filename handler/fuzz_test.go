package handler_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"coffeebuddy/handler"
)

// FuzzPost sends anything at all to POST /: lines of headers, and a body. Nothing
// may panic, wedge or answer 5xx, since no receiver here fails.
func FuzzPost(f *testing.F) {
	structured := "content-type: application/cloudevents+json"
	for _, seed := range []struct{ headers, body string }{
		{strings.Join(lines(event1()), "\n"), `{"message":"Hello World"}`},
		{strings.Join(lines(event1("Ce-", "x")), "\n"), ""},
		{strings.Join(lines(event1("Ce-Id", `"\"%41"`)), "\n"), "1"},
		{structured, `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","data":{}}`},
		{structured, `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","data_base64":1}`},
		{structured, `{"specversion":"1.0","id":"\ud800","source":"/s","type":"boson.fn","":1}`},
		{"content-type: application/json", `{"a":[1,{"b":null}]}`},
		{"content-type: application/cloudevents-batch+json", "[]"},
		{"content-encoding: gzip", "\x1f\x8b"},
	} {
		f.Add(seed.headers, seed.body)
	}
	fn := newFunction(f, func(c *handler.Config) { c.Environment = "dev" })
	f.Fuzz(func(t *testing.T, headers, body string) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		for line := range strings.Lines(headers) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], strings.TrimSpace(value))
		}
		w := httptest.NewRecorder()
		fn.ServeHTTP(w, r)
		fn.logs.reset()
		if w.Code >= 500 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if w.Code >= 400 && !strings.HasPrefix(w.Body.String(), `{"error":"`) {
			t.Errorf("an error of another shape: %d %s", w.Code, w.Body)
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
