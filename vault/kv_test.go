package vault_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
				if strings.HasPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/") {
					w.WriteHeader(http.StatusForbidden)
					return
				}
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

// TestWhereTheSecretIs checks that hints distinguish the common mistakes, and that they contain
// nothing from Vault's responses.
func TestWhereTheSecretIs(t *testing.T) {
	t.Parallel()
	forbidden, none := canned{403, `{"errors":["canary"]}`}, canned{404, `{"errors":["canary"]}`}
	mounted := func(path, kind, version string) canned {
		return canned{200, fmt.Sprintf(`{"data":{"path":%q,"type":%q,"options":{"version":%q},"description":"canary"}}`, path, kind, version)}
	}
	right := vault.KV{Mount: "secret", Path: "coffeebuddy/slack", Key: "signing_secret"}
	for _, test := range []struct {
		when   string
		kv     vault.KV
		answer canned
		mount  canned
		hint   string
		reason fault.Reason
	}{
		{"as vault read shows it", vault.KV{Mount: "secret", Path: "data/coffeebuddy/slack", Key: "k"}, forbidden, forbidden, "starts with data/", fault.Denied},
		{"as vault read shows it, with a policy for all", vault.KV{Mount: "secret", Path: "data/coffeebuddy/slack", Key: "k"}, none, mounted("secret/", "kv", "2"), "starts with data/", fault.Misconfigured},
		{"a policy for another path", right, forbidden, mounted("secret/", "kv", "2"), "policies do not allow", fault.Denied},
		{"no such mount", right, forbidden, forbidden, "no such mount", fault.Denied},
		{"a mount with a slash", vault.KV{Mount: "team", Path: "kv/coffeebuddy", Key: "k"}, forbidden, mounted("team/kv/", "kv", "2"), "write mount:path", fault.Denied},
		{"version 1", right, none, canned{200, `{"data":{"path":"secret/","type":"kv","options":null}}`}, "version 1", fault.Misconfigured},
		{"another engine", right, none, mounted("secret/", "transit", ""), "no KV secrets engine", fault.Misconfigured},
		{"no such secret", right, none, mounted("secret/", "kv", "2"), "no such secret in it", fault.Misconfigured},
		{"a deleted one", right, canned{404, `{"data":{"data":null,"metadata":{"deletion_time":"2026-01-02T03:04:05Z","destroyed":false}}}`}, none, "was deleted or destroyed", fault.Misconfigured},
		{"another case of the key", right, canned{200, `{"data":{"data":{"SIGNING_SECRET":"canary"}}}`}, none, "differs in its case", fault.Misconfigured},
		{"another key", right, canned{200, `{"data":{"data":{"key":"canary"}}}`}, none, "no such key", fault.Misconfigured},
		{"a Vault that does not say", right, forbidden, canned{500, "canary"}, "refuses to read", fault.Denied},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := test.answer
				if r.URL.Path == "/v1/sys/internal/ui/mounts/"+test.kv.Mount+"/"+test.kv.Path {
					answer = test.mount
				}
				w.WriteHeader(answer.status)
				_, _ = io.WriteString(w, answer.body)
			}))
			defer server.Close()
			client := clientAt(t, server.URL)
			for range 2 { // cached the second time
				_, err := client.Read(t.Context(), test.kv)
				is.Equal(fault.ReasonOf(err), test.reason)
				is.True(strings.Contains(err.Error(), test.hint)) // err
				is.True(!strings.Contains(err.Error(), "canary"))
				is.Equal(errors.Is(err, vault.ErrNotFound), test.answer.status == 404)
			}
		})
	}
}

// TestHintsAreAskedForOnceAMinute checks that concurrent and alternating reads of several secrets
// cause one request a minute for each secret, and that the number of secrets is bounded.
func TestHintsAreAskedForOnceAMinute(t *testing.T) {
	for _, test := range []struct{ secrets, asked int }{{1, 1}, {3, 3}, {64, 64}, {200, 64}} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			var asked atomic.Int64
			p := &played{token: "s.canary", lookup: canned{200, lookedUp}}
			p.serve = func(r *http.Request) (canned, bool) {
				if strings.HasPrefix(r.URL.Path, "/v1/sys/internal/ui/mounts/") {
					asked.Add(1)
					time.Sleep(time.Second)
					return canned{200, `{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}`}, true
				}
				return canned{403, `{"errors":["canary"]}`}, strings.HasPrefix(r.URL.Path, "/v1/secret/")
			}
			client := p.client(t)
			read := func(secret int, key string) error {
				_, err := client.Read(t.Context(), vault.KV{Mount: "secret", Path: fmt.Sprint(secret), Key: key})
				return err
			}
			for minute := 1; minute <= 2; minute++ {
				var reading sync.WaitGroup
				for secret := range test.secrets {
					for _, key := range []string{"user", "password"} {
						reading.Go(func() { is.Equal(fault.ReasonOf(read(secret, key)), fault.Denied) })
					}
				}
				reading.Wait()
				hints := 0
				for secret := range test.secrets {
					if strings.Contains(read(secret, "user").Error(), "policies do not allow") {
						hints++
					}
				}
				is.Equal(hints, test.asked)
				is.Equal(int(asked.Load()), minute*test.asked)
				time.Sleep(time.Minute)
			}
		})
	}
}
