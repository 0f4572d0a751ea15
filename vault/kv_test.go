package vault_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"coffeebuddy/internal/fault"
	"coffeebuddy/vault"

	"github.com/matryer/is"
)

func TestRead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when   string
		answer canned
		want   string
		reason fault.Reason
	}{
		{"there", canned{200, `{"data":{"data":{"signing_secret":"s1","other":1},"metadata":{"version":3}}}`}, "s1", ""},
		{"deleted", canned{404, `{"data":{"data":null,"metadata":{"deletion_time":"2026-01-02T03:04:05Z"}}}`}, "", fault.Misconfigured},
		{"no such secret", canned{404, `{"errors":[]}`}, "", fault.Misconfigured},
		{"without the key", canned{200, `{"data":{"data":{"canary":"canary"}}}`}, "", fault.Misconfigured},
		{"with an empty value", canned{200, `{"data":{"data":{"signing_secret":""}}}`}, "", fault.Misconfigured},
		{"with a number", canned{200, `{"data":{"data":{"signing_secret":7}}}`}, "", fault.Misconfigured},
		{"of version 1", canned{200, `{"data":{"signing_secret":"canary"}}`}, "", fault.BadResponse},
		{"a login page", canned{200, `<html>canary</html>`}, "", fault.BadResponse},
		{"of 1 MiB", canned{200, `{"data":{"data":{"signing_secret":"s1","x":"` + strings.Repeat("x", 1<<20) + `"}}}`}, "s1", ""},
		{"forbidden", canned{403, `{"errors":["canary"]}`}, "", fault.Denied},
		{"sealed", canned{503, `{"errors":["Vault is sealed"]}`}, "", fault.Unavailable},
		{"failing", canned{500, `{"errors":["canary"]}`}, "", fault.Unavailable},
		{"too large", canned{200, strings.Repeat("canary", 400000)}, "", fault.BadResponse},
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
			got, err := clientAt(t, server.URL).Read(t.Context(), vault.KV{Mount: "secret", Path: "coffeebuddy/slack", Key: "signing_secret"})
			is.Equal(got, test.want)
			is.Equal(fault.ReasonOf(err), test.reason)
			is.True(err == nil || !strings.Contains(err.Error(), "canary"))
		})
	}
	_, err := clientAt(t, "http://127.0.0.1:1").Read(t.Context(), vault.KV{Mount: "secret", Path: "x", Key: "y"})
	is.New(t).Equal(fault.ReasonOf(err), fault.Refused)
}
