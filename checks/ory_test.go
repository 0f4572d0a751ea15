package checks_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"coffeebuddy/checks"

	"github.com/matryer/is"
	ory "github.com/ory/client-go"
)

func TestOryStates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when string
		canned
		want checks.Reason
	}{
		{"ready", canned{200, `{"status":"ok"}`}, ""},
		{"ready, with more to say", canned{200, "{\"status\":\"ok\",\"version\":\"v2.3.0\"}\n"}, ""},
		{"its database is gone", canned{503, `{"error":{"code":500,"status":"Internal Server Error"}}`}, checks.ReasonUnavailable},
		{"the documented 503", canned{503, `{"errors":{"database":"canary"}}`}, checks.ReasonUnavailable},
		{"ok with another status", canned{500, `{"status":"ok"}`}, checks.ReasonUnavailable},
		{"a 204", canned{204, ""}, checks.ReasonUnavailable},
		{"a 404", canned{404, "canary"}, checks.ReasonUnavailable},
		{"a 429", canned{429, ""}, checks.ReasonUnavailable},
		{"an error over 64 KiB", canned{500, strings.Repeat("x", 1<<20)}, checks.ReasonUnavailable},
		{"a login page", canned{200, "<html>sign in</html>"}, checks.ReasonBadResponse},
		{"an empty 200", canned{200, ""}, checks.ReasonBadResponse},
		{"an empty object", canned{200, "{}"}, checks.ReasonBadResponse},
		{"another word", canned{200, `{"status":"starting"}`}, checks.ReasonBadResponse},
		{"a list", canned{200, `["status","ok"]`}, checks.ReasonBadResponse},
		{"two texts", canned{200, `{"status":"ok"}{"status":"ok"}`}, checks.ReasonBadResponse},
		{"an answer over 64 KiB", canned{200, `{"status":"ok","x":"` + strings.Repeat("x", 64<<10) + `"}`}, checks.ReasonBadResponse},
		{"a status that redirects nowhere", canned{304, ""}, checks.ReasonUnavailable},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer server.Close()
			is.Equal(check(t, checks.NewOry(server.URL)), test.want)
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
			is.Equal(check(t, checks.NewOry(server.URL+base)), checks.Reason(""))
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
		to   func(self string, hop int) string // where the nth answer points; "" is ready
		want checks.Reason
	}{
		{"Kratos' admin port", func(_ string, hop int) string {
			return []string{"/admin/health/ready", ""}[hop]
		}, ""},
		{"three on the same host", func(self string, hop int) string {
			return []string{"/1", self + "/2", "/3", ""}[hop]
		}, ""},
		{"four", func(_ string, hop int) string { return fmt.Sprintf("/%d", hop) }, checks.ReasonBadResponse},
		{"another port", func(string, int) string { return other.URL + "/health/ready" }, checks.ReasonBadResponse},
		{"another name for the same host", func(self string, _ int) string {
			return strings.Replace(self, "127.0.0.1", "localhost", 1) + "/health/ready"
		}, checks.ReasonBadResponse},
		{"another scheme", func(self string, _ int) string {
			return strings.Replace(self, "http:", "https:", 1) + "/health/ready"
		}, checks.ReasonBadResponse},
		{"no URL at all", func(string, int) string { return "http://%zz" }, checks.ReasonBadResponse},
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
			is.Equal(check(t, checks.NewOry(server.URL)), test.want)
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
	check := checks.NewOry(server.URL + "/hydra//")
	config := check.Configuration()
	is.Equal(len(config.Servers), 1)
	is.Equal(len(config.OperationServers), 0)
	is.True(config.HTTPClient != http.DefaultClient)
	is.Equal(check.Configuration(), config) // the same one

	version, _, err := ory.NewAPIClient(config).MetadataAPI.GetVersion(t.Context()).Execute() // as a feature would
	is.NoErr(err)
	is.Equal(version.GetVersion(), "v2.3.0")
	is.Equal(paths, []string{"/hydra/version"})
}
