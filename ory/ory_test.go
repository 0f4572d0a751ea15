package ory_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coffeebuddy/internal/fault"
	"coffeebuddy/ory"

	"github.com/matryer/is"
	api "github.com/ory/client-go"
)

// A canned response.
type canned struct {
	status int
	body   string
}

func newClient(t *testing.T, base string) *ory.Client {
	t.Helper()
	client, err := ory.New(ory.Config{BaseURL: base})
	is.New(t).NoErr(err)
	return client
}

func check(t *testing.T, client *ory.Client) fault.Reason {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return fault.ReasonOf(client.Ready(ctx))
}

func TestOryStates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when string
		canned
		want fault.Reason
	}{
		{"ready", canned{200, `{"status":"ok"}`}, ""},
		{"ready, with more to say", canned{200, "{\"status\":\"ok\",\"version\":\"v2.3.0\"}\n"}, ""},
		{"its database is gone", canned{503, `{"error":{"code":500,"status":"Internal Server Error"}}`}, fault.Unavailable},
		{"the documented 503", canned{503, `{"errors":{"database":"canary"}}`}, fault.Unavailable},
		{"ok with another status", canned{500, `{"status":"ok"}`}, fault.Unavailable},
		{"a 204", canned{204, ""}, fault.Unavailable},
		{"a 404", canned{404, "canary"}, fault.Unavailable},
		{"a 429", canned{429, ""}, fault.Unavailable},
		{"an error over 64 KiB", canned{500, strings.Repeat("x", 1<<20)}, fault.Unavailable},
		{"a login page", canned{200, "<html>sign in</html>"}, fault.BadResponse},
		{"an empty 200", canned{200, ""}, fault.BadResponse},
		{"an empty object", canned{200, "{}"}, fault.BadResponse},
		{"another word", canned{200, `{"status":"starting"}`}, fault.BadResponse},
		{"a list", canned{200, `["status","ok"]`}, fault.BadResponse},
		{"two texts", canned{200, `{"status":"ok"}{"status":"ok"}`}, fault.BadResponse},
		{"an answer over 64 KiB", canned{200, `{"status":"ok","x":"` + strings.Repeat("x", 64<<10) + `"}`}, fault.BadResponse},
		{"a status that redirects nowhere", canned{304, ""}, fault.Unavailable},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer server.Close()
			is.Equal(check(t, newClient(t, server.URL)), test.want)
		})
	}
}

func TestOryBaseURLMayHaveAPrefixAndSlashes(t *testing.T) {
	for _, base := range []string{"", "/", "///", "/identity", "/identity/", "/identity/v1//"} {
		t.Run(base, func(t *testing.T) {
			is := is.New(t)
			want := strings.TrimRight(base, "/") + "/health/ready"
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && r.URL.Path == want {
					_, _ = io.WriteString(w, `{"status":"ok"}`)
				}
			}))
			defer server.Close()
			is.Equal(check(t, newClient(t, server.URL+base)), fault.Reason(""))
		})
	}
}

func TestOryRedirects(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	defer other.Close()
	for _, test := range []struct {
		when string
		to   func(self string, hop int) string // target of the nth redirect; "" means ready
		want fault.Reason
	}{
		{"Kratos' admin port", func(_ string, hop int) string {
			return []string{"/admin/health/ready", ""}[hop]
		}, ""},
		{"three on the same host", func(self string, hop int) string {
			return []string{"/1", self + "/2", "/3", ""}[hop]
		}, ""},
		{"four", func(_ string, hop int) string { return fmt.Sprintf("/%d", hop) }, fault.BadResponse},
		{"another port", func(string, int) string { return other.URL + "/health/ready" }, fault.BadResponse},
		{"another name for the same host", func(self string, _ int) string {
			return strings.Replace(self, "127.0.0.1", "localhost", 1) + "/health/ready"
		}, fault.BadResponse},
		{"another scheme", func(self string, _ int) string {
			return strings.Replace(self, "http:", "https:", 1) + "/health/ready"
		}, fault.BadResponse},
		{"no URL at all", func(string, int) string { return "http://%zz" }, fault.BadResponse},
	} {
		t.Run(test.when, func(t *testing.T) {
			is := is.New(t)
			var hops atomic.Int64
			var self string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				to := test.to(self, int(hops.Add(1)-1))
				if to == "" {
					_, _ = io.WriteString(w, `{"status":"ok"}`)
					return
				}
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusTemporaryRedirect)
			}))
			defer server.Close()
			self = server.URL
			is.Equal(check(t, newClient(t, server.URL)), test.want)
			is.Equal(elsewhere.Load(), int64(0))
		})
	}
}

func TestOryClientKnowsNoPublicNetwork(t *testing.T) {
	is := is.New(t)
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"version":"v2.3.0"}`)
	}))
	defer server.Close()
	check := newClient(t, server.URL+"/hydra//")
	config := check.Configuration()
	is.Equal(len(config.Servers), 1)
	is.Equal(len(config.OperationServers), 0)
	is.True(config.HTTPClient != http.DefaultClient)
	is.Equal(check.Configuration(), config) // the same configuration

	version, _, err := api.NewAPIClient(config).MetadataAPI.GetVersion(t.Context()).Execute() // as a feature would
	is.NoErr(err)
	is.Equal(version.GetVersion(), "v2.3.0")
	is.Equal(paths, []string{"/hydra/version"})
}
