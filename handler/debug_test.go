package handler_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"coffeebuddy/handler"

	"github.com/matryer/is"
)

// newDebug serves handler.Debug.
func newDebug(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler.Debug(json.RawMessage(`{"a":"b"}`)))
	server.Config.DisableGeneralOptionsHandler = true
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func TestDebugRoutes(t *testing.T) {
	t.Parallel()
	server := newDebug(t)
	const octets, text = "application/octet-stream", "text/plain; charset=utf-8"
	for _, test := range []struct {
		method, target string
		code           int
		contentType    string
		body           string // in it
	}{
		{"GET", "/debug/settings", 200, "application/json", "{\n  \"a\": \"b\"\n}\n"},
		{"HEAD", "/debug/settings", 200, "application/json", ""},
		{"GET", "/debug/pprof", 200, text, "\nprofile ?seconds=30\n"},
		{"GET", "/debug/pprof/", 200, text, "\nheap "},
		{"GET", "/debug/pprof/goroutine", 200, octets, "\x1f\x8b"},
		{"GET", "/debug/pprof/heap?gc=1&debug=0", 200, octets, "\x1f\x8b"},
		{"GET", "/debug/pprof/allocs", 200, octets, "\x1f\x8b"},
		{"GET", "/debug/pprof/mutex", 200, octets, "\x1f\x8b"},
		{"GET", "/debug/pprof/block", 200, octets, "\x1f\x8b"},
		{"GET", "/debug/pprof/threadcreate", 200, octets, "\x1f\x8b"},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, text, "goroutine profile: total "},
		{"GET", "/debug/pprof/goroutine?debug=2", 200, text, "[running]:\n"},
		{"GET", "/debug/pprof/trace?seconds=0.01", 200, octets, " trace\x00"},
		{"GET", "/debug/pprof/heap?debug=3", 400, text, "debug must be 0, 1 or 2\n"},
		{"GET", "/debug/pprof/heap?debug=x", 400, text, "debug must be 0, 1 or 2\n"},
		{"GET", "/debug/pprof/heap?seconds=1", 400, text, "compare two"},
		{"GET", "/debug/pprof/profile?seconds=0", 400, text, "seconds must be over 0 and at most 600\n"},
		{"GET", "/debug/pprof/profile?seconds=601", 400, text, "seconds must be"},
		{"GET", "/debug/pprof/profile?seconds=-1", 400, text, "seconds must be"},
		{"GET", "/debug/pprof/trace?seconds=NaN", 400, text, "seconds must be"},
		{"GET", "/debug/pprof/trace?seconds=x", 400, text, "seconds must be"},
		{"POST", "/debug/settings", 405, text, ""},
		{"POST", "/debug/pprof/profile", 405, text, ""},
		{"DELETE", "/debug/pprof/", 405, text, ""},
		{"GET", "/", 404, text, ""},
		{"GET", "/debug", 404, text, ""},
		{"GET", "/debug/", 404, text, ""},
		{"GET", "/debug/pprof/canary", 404, text, ""},
		{"GET", "/debug/pprof/heap/", 404, text, ""},
		{"GET", "/debug/settings/", 404, text, ""},
		{"GET", "//debug/settings", 404, text, ""},
		{"GET", "/debug/../debug/settings", 404, text, ""},
		{"GET", "/metrics", 404, text, ""},
		{"GET", "/health/live", 404, text, ""},
		{"OPTIONS", "*", 404, text, ""},
	} {
		t.Run(test.method+" "+test.target, func(t *testing.T) {
			is := is.New(t)
			resp := raw(t, server.Listener.Addr(), test.method+" "+test.target+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", test.method)
			body, err := io.ReadAll(resp.Body)
			is.NoErr(err)
			is.Equal(resp.StatusCode, test.code)
			is.Equal(resp.Header.Get("Content-Type"), test.contentType)
			is.Equal(resp.Header.Get("X-Content-Type-Options"), "nosniff")
			is.Equal(resp.Header.Get("Cache-Control"), "no-store")
			is.Equal(resp.Header.Get("Location"), "") // never a redirect
			is.True(strings.Contains(string(body), test.body))
		})
	}
}

// TestDebugIsForLoopbackNames: a page of elsewhere.example whose name was led to
// 127.0.0.1 asks with its own name.
func TestDebugIsForLoopbackNames(t *testing.T) {
	t.Parallel()
	h := handler.Debug(json.RawMessage(`{"a":"canary"}`))
	for host, code := range map[string]int{
		"localhost": 200, "localhost:6060": 200, "LocalHost:1": 200, "127.0.0.1": 200, "127.0.0.1:7070": 200, "127.1.2.3:1": 200, "[::1]": 200, "[::1]:6060": 200,
		"": 403, "elsewhere.example": 403, "elsewhere.example:6060": 403, "localhost.elsewhere.example:6060": 403, "127.0.0.1.elsewhere.example": 403,
		"0.0.0.0:6060": 403, "[::]:6060": 403, "10.0.0.1:6060": 403, "192.0.2.1": 403, "localhost:6060:1": 403, ":6060": 403,
	} {
		t.Run(host, func(t *testing.T) {
			is := is.New(t)
			r := httptest.NewRequest("GET", "/debug/settings", nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			is.Equal(w.Code, code)
			is.Equal(strings.Contains(w.Body.String(), "canary"), code == 200)
		})
	}
}

// TestDebugRecordsOneAtATimeAndNoLongerThanItsCallerStays is not parallel: there is one
// recording of the CPU in a process.
func TestDebugRecordsOneAtATimeAndNoLongerThanItsCallerStays(t *testing.T) {
	is := is.New(t)
	server := newDebug(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, "GET", server.URL+"/debug/pprof/profile?seconds=600", nil)
	is.NoErr(err)
	left := make(chan struct{})
	go func() {
		defer close(left)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	ask := func(query string) (int, []byte) {
		resp, err := http.Get(server.URL + "/debug/pprof/" + query)
		is.NoErr(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		is.NoErr(err)
		return resp.StatusCode, body
	}
	eventually(t, func() bool {
		_, goroutines := ask("goroutine?debug=2")
		return bytes.Contains(goroutines, []byte("runtime/pprof.profileWriter")) // it records
	})
	code, body := ask("profile?seconds=0.01")
	is.Equal(code, 409)
	is.Equal(string(body), "one is being recorded already\n")

	leave()
	<-left
	eventually(t, func() bool {
		code, body = ask("profile?seconds=0.01")
		return code == 200
	})
	unzipped, err := gzip.NewReader(bytes.NewReader(body))
	is.NoErr(err)
	profile, err := io.ReadAll(unzipped)
	is.NoErr(err)
	is.True(bytes.Contains(profile, []byte("nanoseconds")))
}
