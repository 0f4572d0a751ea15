package checks_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"coffeebuddy/checks"

	"github.com/matryer/is"
)

func TestRead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when   string
		answer canned
		want   string
		reason checks.Reason
	}{
		{"there", canned{200, `{"data":{"data":{"signing_secret":"s1","other":1},"metadata":{"version":3}}}`}, "s1", ""},
		{"deleted", canned{404, `{"data":{"data":null,"metadata":{"deletion_time":"2026-01-02T03:04:05Z"}}}`}, "", checks.ReasonMisconfigured},
		{"no such secret", canned{404, `{"errors":[]}`}, "", checks.ReasonMisconfigured},
		{"without the key", canned{200, `{"data":{"data":{"canary":"canary"}}}`}, "", checks.ReasonMisconfigured},
		{"with an empty value", canned{200, `{"data":{"data":{"signing_secret":""}}}`}, "", checks.ReasonMisconfigured},
		{"with a number", canned{200, `{"data":{"data":{"signing_secret":7}}}`}, "", checks.ReasonMisconfigured},
		{"of version 1", canned{200, `{"data":{"signing_secret":"canary"}}`}, "", checks.ReasonBadResponse},
		{"a login page", canned{200, `<html>canary</html>`}, "", checks.ReasonBadResponse},
		{"forbidden", canned{403, `{"errors":["canary"]}`}, "", checks.ReasonDenied},
		{"sealed", canned{503, `{"errors":["Vault is sealed"]}`}, "", checks.ReasonUnavailable},
		{"failing", canned{500, `{"errors":["canary"]}`}, "", checks.ReasonUnavailable},
		{"too large", canned{200, strings.Repeat("canary", 20000)}, "", checks.ReasonBadResponse},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				is.Equal(r.URL.Path, "/v1/secret/data/coffeebuddy/slack")
				is.Equal(r.Header.Get("X-Vault-Token"), "s.canary")
				w.WriteHeader(test.answer.status)
				_, _ = io.WriteString(w, test.answer.body)
			}))
			defer server.Close()
			got, err := vaultAt(server.URL).Read(t.Context(), checks.KV{Mount: "secret", Path: "coffeebuddy/slack", Key: "signing_secret"})
			is.Equal(got, test.want)
			is.Equal(checks.ReasonOf(err), test.reason)
			is.True(err == nil || !strings.Contains(err.Error(), "canary"))
		})
	}
	_, err := vaultAt("http://127.0.0.1:1").Read(t.Context(), checks.KV{Mount: "secret", Path: "x", Key: "y"})
	is.New(t).Equal(checks.ReasonOf(err), checks.ReasonRefused)
}
