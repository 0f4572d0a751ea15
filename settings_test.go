package coffeebuddy_test

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"coffeebuddy"
	"coffeebuddy/vault"

	"github.com/matryer/is"
)

// environment sets variables, and unsets all others that mean something.
func environment(t testing.TB, variables map[string]string) {
	t.Helper()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "COFFEEBUDDY_") || strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "K_") || name == "ORY_BASE_URL" || name == "PORT" {
			t.Setenv(name, "") // so that it is put back
			os.Unsetenv(name)
		}
	}
	for name, value := range variables {
		t.Setenv(name, value)
	}
}

// noToken names all three ways to an identity.
func noToken() coffeebuddy.Problem {
	return coffeebuddy.Problem{Variable: "VAULT_TOKEN", Why: "is not set: set it, or its _FILE variant, or log in with VAULT_ROLE"}
}

// certificate is one that nobody has the key of.
const certificate = `-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUUMwa3s6uf+pyfOjiL+I7qNp70JMwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGYnJva2VyMCAXDTI2MTEyNjE1MDAyOVoYDzIxMjYxMTAyMTUw
MDI5WjARMQ8wDQYDVQQDDAZicm9rZXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAR1vUrisF0bDc7wt7FKZQiXq3tMENc+u8wnVKQug7zqHskHf9Rw/dWA32tR8K5j
A608Ps7An9HS3mtAhUFhL+Kio1MwUTAdBgNVHQ4EFgQUMqxL0tDYsp6AfhO4+nNy
iPnwUqEwHwYDVR0jBBgwFoAUMqxL0tDYsp6AfhO4+nNyiPnwUqEwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEA+TmVkmdzg04KsMkX9Gjrb2qsWWrv
F0ocxxfzpSkiLeACICk4uOFqY/7eoUpDBW3x8KstJ1sJfj1vb3GLJDBzuc2T
-----END CERTIFICATE-----
`

func TestDefaults(t *testing.T) {
	is := is.New(t)
	environment(t, nil)
	s, err := coffeebuddy.Load()
	is.NoErr(err)
	is.Equal(s.AppName, "coffeebuddy")
	is.Equal(s.Environment, "dev")
	is.Equal(s.HTTPHost, "0.0.0.0")
	is.Equal(s.Port, 8080)
	is.Equal(s.MetricsPath, "/metrics")
	is.Equal(s.CheckTTL, time.Second)
	is.Equal(s.CheckTimeout, 2*time.Second)
	is.Equal(s.ReadyGrace, time.Duration(0))
	is.Equal(s.ShutdownTimeout, 20*time.Second)
	is.Equal(s.EventsInFlight, 32)
	is.Equal(s.EventTimeout, 10*time.Second)
	is.Equal(s.EventsScope, "")
	is.True(s.Slack.Secret == nil) // there is no Slack
	is.Equal(s.Slack.AckAfter, 1800*time.Millisecond)
	is.True(!s.DebugAddr.IsValid()) // nothing listens for debugging
	is.Equal(s.LogLevel, slog.LevelInfo)
	is.True(s.Echo)
	is.Equal(s.Connections, 4096)
	is.Equal(s.EventsAudience, "coffeebuddy")
	is.Equal(s.Sink, coffeebuddy.SinkSettings{})
	is.Equal(s.Ledger, coffeebuddy.LedgerSettings{})
	is.Equal(s.OAuth, coffeebuddy.OAuthSettings{})
	is.Equal(s.Vault.Wrong, []coffeebuddy.Problem{{"VAULT_ADDR", "is not set"}, noToken()})
	is.Equal(s.Ory.Wrong, []coffeebuddy.Problem{{"ORY_BASE_URL", "is not set"}})
}

func TestEachVariable(t *testing.T) {
	for _, test := range []struct {
		variable, value string
		read            func(coffeebuddy.Settings) any
		want            any
	}{
		{"COFFEEBUDDY_APP_NAME", "kaffee küche", func(s coffeebuddy.Settings) any { return s.AppName }, "kaffee küche"},
		{"COFFEEBUDDY_ENVIRONMENT", "prod", func(s coffeebuddy.Settings) any { return s.Environment }, "prod"},
		{"COFFEEBUDDY_HTTP_HOST", "::1", func(s coffeebuddy.Settings) any { return s.HTTPHost }, "::1"},
		{"COFFEEBUDDY_HTTP_HOST", "localhost", func(s coffeebuddy.Settings) any { return s.HTTPHost }, "localhost"},
		{"COFFEEBUDDY_HTTP_PORT", "1", func(s coffeebuddy.Settings) any { return s.Port }, 1},
		{"PORT", "65535", func(s coffeebuddy.Settings) any { return s.Port }, 65535},
		{"COFFEEBUDDY_METRICS_PATH", "/internal/metrics-1", func(s coffeebuddy.Settings) any { return s.MetricsPath }, "/internal/metrics-1"},
		{"VAULT_ADDR", "https://vault.example.com:8200/", func(s coffeebuddy.Settings) any { return s.Vault.Address }, "https://vault.example.com:8200/"},
		{"VAULT_TOKEN", " \ts.token\r\n", func(s coffeebuddy.Settings) any { return s.Vault.Token.Reveal() }, "s.token"},
		{"VAULT_TOKEN_FILE", "/vault/secrets/token", func(s coffeebuddy.Settings) any { return s.Vault.TokenFile }, "/vault/secrets/token"},
		{"VAULT_TOKEN_FILE", "{{ secret:vault:file }}", func(s coffeebuddy.Settings) any { return s.Vault.TokenFile }, ""},
		{"VAULT_NAMESPACE", "team/coffee", func(s coffeebuddy.Settings) any { return s.Vault.Namespace }, "team/coffee"},
		{"VAULT_CACERT", "/etc/ca.pem", func(s coffeebuddy.Settings) any { return s.Vault.CACert }, "/etc/ca.pem"},
		{"ORY_BASE_URL", "http://[::1]:4445/hydra//", func(s coffeebuddy.Settings) any { return s.Ory.BaseURL }, "http://[::1]:4445/hydra//"},
		{"COFFEEBUDDY_CHECK_TTL", "50ms", func(s coffeebuddy.Settings) any { return s.CheckTTL }, 50 * time.Millisecond},
		{"COFFEEBUDDY_CHECK_TTL", "15s", func(s coffeebuddy.Settings) any { return s.CheckTTL }, 15 * time.Second},
		{"COFFEEBUDDY_CHECK_TIMEOUT", "10s", func(s coffeebuddy.Settings) any { return s.CheckTimeout }, 10 * time.Second},
		{"COFFEEBUDDY_READY_GRACE", "24h", func(s coffeebuddy.Settings) any { return s.ReadyGrace }, 24 * time.Hour},
		{"COFFEEBUDDY_READY_GRACE", "0", func(s coffeebuddy.Settings) any { return s.ReadyGrace }, time.Duration(0)},
		{"COFFEEBUDDY_SHUTDOWN_TIMEOUT", "10m", func(s coffeebuddy.Settings) any { return s.ShutdownTimeout }, 10 * time.Minute},
		{"COFFEEBUDDY_EVENTS_IN_FLIGHT", "10000", func(s coffeebuddy.Settings) any { return s.EventsInFlight }, 10000},
		{"COFFEEBUDDY_EVENT_TIMEOUT", "1m30s", func(s coffeebuddy.Settings) any { return s.EventTimeout }, 90 * time.Second},
		{"COFFEEBUDDY_EVENTS_SCOPE", "https://coffee.example.com/events.write!'#", func(s coffeebuddy.Settings) any { return s.EventsScope }, "https://coffee.example.com/events.write!'#"},
		{"COFFEEBUDDY_EVENTS_SCOPE", "", func(s coffeebuddy.Settings) any { return s.EventsScope }, ""},
		{"COFFEEBUDDY_SLACK_SECRET", "secret/coffeebuddy/slack#signing_secret", func(s coffeebuddy.Settings) any { return *s.Slack.Secret }, vault.KV{Mount: "secret", Path: "coffeebuddy/slack", Key: "signing_secret"}},
		{"COFFEEBUDDY_SLACK_SECRET", "kv-2/s#k.1", func(s coffeebuddy.Settings) any { return *s.Slack.Secret }, vault.KV{Mount: "kv-2", Path: "s", Key: "k.1"}},
		{"COFFEEBUDDY_SLACK_SECRET", "{{ secret:slack:path }}", func(s coffeebuddy.Settings) any { return s.Slack.Secret == nil }, true},
		{"COFFEEBUDDY_SLACK_ACK_AFTER", "100ms", func(s coffeebuddy.Settings) any { return s.Slack.AckAfter }, 100 * time.Millisecond},
		{"COFFEEBUDDY_SLACK_ACK_AFTER", "2s", func(s coffeebuddy.Settings) any { return s.Slack.AckAfter }, 2 * time.Second},
		{"COFFEEBUDDY_DEBUG_ADDR", "127.0.0.1:6060", func(s coffeebuddy.Settings) any { return s.DebugAddr.String() }, "127.0.0.1:6060"},
		{"COFFEEBUDDY_DEBUG_ADDR", "127.9.9.9:65535", func(s coffeebuddy.Settings) any { return s.DebugAddr.String() }, "127.9.9.9:65535"},
		{"COFFEEBUDDY_DEBUG_ADDR", "[::1]:6060", func(s coffeebuddy.Settings) any { return s.DebugAddr.String() }, "[::1]:6060"},
		{"COFFEEBUDDY_DEBUG_ADDR", "localhost:6060", func(s coffeebuddy.Settings) any { return s.DebugAddr.String() }, "127.0.0.1:6060"},
		{"COFFEEBUDDY_DEBUG_ADDR", "127.0.0.1:0", func(s coffeebuddy.Settings) any { return s.DebugAddr.String() }, "127.0.0.1:0"},
		{"COFFEEBUDDY_DEBUG_ADDR", "{{ configMap:coffeebuddy:DEBUG }}", func(s coffeebuddy.Settings) any { return s.DebugAddr.IsValid() }, false},
		{"COFFEEBUDDY_LOG_LEVEL", "warn", func(s coffeebuddy.Settings) any { return s.LogLevel }, slog.LevelWarn},

		{"COFFEEBUDDY_HTTP_PORT", "tcp://10.96.3.4:80", func(s coffeebuddy.Settings) any { return s.Port }, 8080}, // by Kubernetes, for a Service called coffeebuddy-http
		{"COFFEEBUDDY_HTTP_PORT", "udp://[fd00::5]:80", func(s coffeebuddy.Settings) any { return s.Port }, 8080},
		{"COFFEEBUDDY_ECHO", "false", func(s coffeebuddy.Settings) any { return s.Echo }, false},
		{"COFFEEBUDDY_ENVIRONMENT", "prod", func(s coffeebuddy.Settings) any { return s.Echo }, false},
		{"COFFEEBUDDY_ENVIRONMENT", "test", func(s coffeebuddy.Settings) any { return s.Echo }, true},
		{"COFFEEBUDDY_CONNECTIONS", "64", func(s coffeebuddy.Settings) any { return s.Connections }, 64},
		{"COFFEEBUDDY_EVENTS_AUDIENCE", "https://coffee.example.com", func(s coffeebuddy.Settings) any { return s.EventsAudience }, "https://coffee.example.com"},
		{"COFFEEBUDDY_APP_NAME", "kaffee", func(s coffeebuddy.Settings) any { return s.EventsAudience }, "kaffee"},
		{"COFFEEBUDDY_SLACK_SECRET", "team/kv:coffeebuddy/slack#k", func(s coffeebuddy.Settings) any { return *s.Slack.Secret }, vault.KV{Mount: "team/kv", Path: "coffeebuddy/slack", Key: "k"}},
		{"K_SINK", "http://broker-ingress.knative-eventing.svc.cluster.local/coffee/default?x=y", func(s coffeebuddy.Settings) any { return s.Sink.URL }, "http://broker-ingress.knative-eventing.svc.cluster.local/coffee/default?x=y"},
		{"K_CE_OVERRIDES", `{"extensions":{"team":"100% coffee","n":"1"}}`, func(s coffeebuddy.Settings) any { return s.Sink.Overrides }, map[string]string{"team": "100% coffee", "n": "1"}},
		{"K_CE_OVERRIDES", `{}`, func(s coffeebuddy.Settings) any { return len(s.Sink.Overrides) }, 0},
		{"K_CA_CERTS", certificate, func(s coffeebuddy.Settings) any { return s.Sink.CACerts }, certificate},
		{"VAULT_JWT_FILE", "/token", func(s coffeebuddy.Settings) any { return s.Vault.JWTFile }, "/token"},
		{"VAULT_ROLE", "coffeebuddy", func(s coffeebuddy.Settings) any {
			return fmt.Sprint(s.Vault.Role, s.Vault.AuthMount, s.Vault.JWTFile, s.Vault.Wrong[1:])
		}, "coffeebuddykubernetes/var/run/secrets/vault/token[]"},
		{"VAULT_AUTH_MOUNT", "/team/jwt/", func(s coffeebuddy.Settings) any { return s.Vault.AuthMount }, "team/jwt"},

		{"COFFEEBUDDY_LOG_LEVEL", "", func(s coffeebuddy.Settings) any { return s.LogLevel }, slog.LevelInfo},
		{"COFFEEBUDDY_EVENTS_IN_FLIGHT", "", func(s coffeebuddy.Settings) any { return s.EventsInFlight }, 32},
		{"PORT", "{{ env:PORT }}", func(s coffeebuddy.Settings) any { return s.Port }, 8080},
		{"VAULT_TOKEN", "{{ secret:coffeebuddy-vault:token }}", func(s coffeebuddy.Settings) any { return s.Vault.Wrong[1] }, noToken()},
		{"ORY_BASE_URL", "http://{{ configMap:ory:host }}/", func(s coffeebuddy.Settings) any { return s.Ory.Wrong[0].Why }, "is not set"},
		{"COFFEEBUDDY_PORT", "1", func(s coffeebuddy.Settings) any { return fmt.Sprint(s.Port, s.Unknown) }, "8080 [COFFEEBUDDY_PORT]"},
	} {
		t.Run(test.variable+"="+test.value, func(t *testing.T) {
			is := is.New(t)
			environment(t, map[string]string{test.variable: test.value})
			s, err := coffeebuddy.Load()
			is.NoErr(err)
			is.Equal(test.read(s), test.want)
		})
	}
}

func TestPortWins(t *testing.T) {
	is := is.New(t)
	environment(t, map[string]string{"PORT": "8081", "COFFEEBUDDY_HTTP_PORT": "8082"})
	s, err := coffeebuddy.Load()
	is.NoErr(err)
	is.Equal(s.Port, 8081)
}

func TestDebugAddrIsComparedWithThePortThatCounts(t *testing.T) {
	is := is.New(t)
	environment(t, map[string]string{"PORT": "8081", "COFFEEBUDDY_HTTP_PORT": "6060", "COFFEEBUDDY_DEBUG_ADDR": "127.0.0.1:6060"})
	_, err := coffeebuddy.Load()
	is.NoErr(err)
	t.Setenv("PORT", "6060")
	_, err = coffeebuddy.Load()
	is.True(err != nil)
	is.Equal(err.Error(), "COFFEEBUDDY_DEBUG_ADDR: must be another port than the function's own")
	t.Setenv("PORT", "x")
	t.Setenv("COFFEEBUDDY_DEBUG_ADDR", "127.0.0.1:0")
	_, err = coffeebuddy.Load()
	is.True(err != nil)
	is.Equal(err.Error(), "PORT: must be a whole number from 1 to 65535") // and nothing about the other
}

func TestWrongSettingsAreAllNamedAndNeverShown(t *testing.T) {
	for variable, values := range map[string][]string{
		"COFFEEBUDDY_APP_NAME":         {"a\ncanary", strings.Repeat("canary", 11), "\xffcanary"},
		"COFFEEBUDDY_ENVIRONMENT":      {"canary", "PROD", " dev"},
		"COFFEEBUDDY_HTTP_HOST":        {"canary:80", "[::1]", "a_canary", "-canary", "ca nary", "http://canary"},
		"COFFEEBUDDY_HTTP_PORT":        {"canary", "0", "65536", "-1", "+80", "80.0", "0x50", " 80", "99999999999999999999"},
		"PORT":                         {"canary", "0", "65536"},
		"COFFEEBUDDY_METRICS_PATH":     {"canary", "/", "//canary", "/canary/", "/a/../canary", "/{canary}", "/can ary", "/canary?x", "/%41canary", "/health/live", "/health/ready", "/slack/commands", "GET /canary"},
		"COFFEEBUDDY_CHECK_TTL":        {"canary", "49ms", "15.1s", "1", "-1s"},
		"COFFEEBUDDY_CHECK_TIMEOUT":    {"canary", "49ms", "11s"},
		"COFFEEBUDDY_READY_GRACE":      {"canary", "-1s", "25h"},
		"COFFEEBUDDY_SHUTDOWN_TIMEOUT": {"canary", "999ms", "11m"},
		"COFFEEBUDDY_EVENTS_IN_FLIGHT": {"canary", "0", "10001"},
		"COFFEEBUDDY_EVENT_TIMEOUT":    {"canary", "49ms", "11m"},
		"COFFEEBUDDY_EVENTS_SCOPE":     {"canary events", " canary", "canary\n", `"canary"`, `can\ary`, "canaré", strings.Repeat("canary", 22)},
		"COFFEEBUDDY_SLACK_SECRET":     {"canary", "canary#key", "/canary/x#key", "secret/canary", "secret/canary#", "secret/canary#a#b", "secret//canary#k", "secret/../canary#k", "secret/./canary#k", "secret/canary/#k", "secret/can ary#k", "secret/canary#k\n", "secret/canary?x#k", "secret/%41canary#k"},
		"COFFEEBUDDY_SLACK_ACK_AFTER":  {"canary", "99ms", "2.1s", "1800", "-1s"},
		"COFFEEBUDDY_DEBUG_ADDR": {
			"canary", "canary:6060", "localhost.canary:6060", "LOCALHOST:6060", "127.0.0.1.canary:6060", // a name leads anywhere
			":6060", "0.0.0.0:6060", "[::]:6060", "192.0.2.1:6060", "10.0.0.1:6060", "[2001:db8::1]:6060", "126.255.255.255:6060", "128.0.0.1:6060", "[::1%canary]:6060",
			"127.0.0.1", "127.0.0.1:", "localhost", "localhost:", "::1", "[::1]", "::1:6060", "6060", " 127.0.0.1:6060", "http://127.0.0.1:6060", "127.1:6060",
			"127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1:65536", "127.0.0.1:http", "127.0.0.1:0x50", "localhost:canary",
			"127.0.0.1:8080", "[::1]:8080", "localhost:8080", // the function's own
			"127.0.0.1:8008", "127.0.0.1:8012", "localhost:8013", "127.0.0.1:8022", "127.0.0.1:8112", "127.0.0.1:9090", "[::1]:9091", // queue-proxy's
		},
		"COFFEEBUDDY_LOG_LEVEL": {"canary", "INFO", "-4"},

		"COFFEEBUDDY_ECHO":            {"canary", "1", "TRUE", "yes"},
		"COFFEEBUDDY_CONNECTIONS":     {"canary", "63", "65537", "0"},
		"COFFEEBUDDY_EVENTS_AUDIENCE": {"canary\n", strings.Repeat("canary", 11)},
		"COFFEEBUDDY_LEDGER_SECRET":   {"canary", "secret/canary#key", "/canary", "secret/../canary", "secret//canary", ":canary", "secret:"},
		"COFFEEBUDDY_OAUTH_CLIENT":    {"canary", "secret/canary#key"},
		"COFFEEBUDDY_LEDGER": {
			"canary", "postgres://canary", "postgres://canary/", "postgres:///canary", "mysql://canary/db", "postgres://user:canary@host/db", "postgres://canary@host/db",
			"postgres://h/db?sslmode=canary", "postgres://h/db?sslmode=prefer", "postgres://h/db?password=canary", "postgres://h/db?sslmode=disable&sslmode=require",
			"postgres://h/db?sslrootcert=canary", "postgres://h/a/canary", "postgres://a,canary/db", "postgres://canary:0/db", "postgres://canary:/db", "postgres://h/db#canary", "host=canary dbname=x",
		},
		"COFFEEBUDDY_TOKEN_URL": {"canary", "/canary", "ftp://canary", "https://user:canary@host/oauth2/token", "https://host/#canary", "https://:80/canary"},
		"K_SINK":                {"canary", "/canary", "ftp://canary", "http://user:canary@host/", "http://canary@host", "http://host/#canary", "http://canary:99999/", "http://", "http://can ary"},
		"K_CE_OVERRIDES": {
			"canary", `["canary"]`, `{"extensions":"canary"}`, `{"extensions":{"canary":1}}`, `{"extensions":{"id":"canary"}}`, `{"extensions":{"source":"canary"}}`,
			`{"extensions":{"specversion":"canary"}}`, `{"extensions":{"Canary":"x"}}`, `{"extensions":{"can-ary":"x"}}`, `{"extensions":{"":"canary"}}`, `{"extensions":{"canary":"a\u0000b"}}`,
			`{"extensions":{"canary":"\ufffe"}}`, `{"extensions":{"coffeebuddysignature":"canary"}}`, `{"extensions":{"slackretrynum":"canary"}}`, `{"extensions":{"slackretryreason":"canary"}}`,
		},
		"K_CA_CERTS": {"canary", "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n", "-----BEGIN RSA PRIVATE KEY-----\nY2FuYXJ5\n-----END RSA PRIVATE KEY-----\n" + certificate},
	} {
		for _, value := range values {
			t.Run(variable+"="+value, func(t *testing.T) {
				is := is.New(t)
				environment(t, map[string]string{variable: value})
				_, err := coffeebuddy.Load()
				is.True(err != nil)
				is.True(strings.HasPrefix(err.Error(), variable+": must be ")) // the name, and what is allowed
				is.Equal(strings.Count(err.Error(), "\n"), 0)
				is.True(!strings.Contains(err.Error(), "canary"))
			})
		}
	}
	t.Run("all at once", func(t *testing.T) {
		is := is.New(t)
		environment(t, map[string]string{
			"PORT": "x", "COFFEEBUDDY_HTTP_PORT": "x", "COFFEEBUDDY_CHECK_TTL": "x", "COFFEEBUDDY_LOG_LEVEL": "x", "VAULT_ADDR": "x",
		})
		_, err := coffeebuddy.Load()
		is.True(err != nil)
		var names []string
		for line := range strings.Lines(err.Error()) {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
		is.Equal(names, []string{"COFFEEBUDDY_HTTP_PORT", "COFFEEBUDDY_CHECK_TTL", "COFFEEBUDDY_LOG_LEVEL", "PORT"})
	})
}

func TestWrongDependencySettings(t *testing.T) {
	good := map[string]string{"VAULT_ADDR": "http://127.0.0.1:8200", "VAULT_TOKEN": "s.token", "ORY_BASE_URL": "http://127.0.0.1:4445"}
	urls := []string{
		"", "canary", "canary:8200", "//canary", "/canary", "ftp://canary", "http://", "http:///canary", "http://canary:", "http://:8200",
		"http://canary:99999", "http://canary:x", "http://canary:0", "http://user:canary@host", "http://canary@host",
		"http://host?canary", "http://host/?", "http://host/#canary", "http://host#", "http://can ary", "http://host\n", " http://host",
		"unix:///canary", "http://[::1", "http://host/%zz",
	}
	for variable, values := range map[string][]string{
		"VAULT_ADDR":   append([]string{"http://host/v1", "http://host/v1/", "http://host/v1/sys/health"}, urls...),
		"VAULT_TOKEN":  {"", " ", "\n", "can ary", "can\nary", "canary\x00", "canaré"},
		"ORY_BASE_URL": append([]string{"https://canary.projects.oryapis.com", "https://api.console.ory.sh./x", "https://ORY.SH"}, urls...),
	} {
		for _, value := range values {
			t.Run(variable+"="+value, func(t *testing.T) {
				if strings.Contains(value, "\x00") {
					t.Skip("an environment cannot hold it")
				}
				is := is.New(t)
				environment(t, good)
				t.Setenv(variable, value)
				s, err := coffeebuddy.Load()
				is.NoErr(err) // runs, and is not ready
				wrong := append(s.Vault.Wrong, s.Ory.Wrong...)
				is.Equal(len(wrong), 1)
				is.Equal(wrong[0].Variable, variable)
				is.True(wrong[0].Why != "")
				is.True(!strings.Contains(fmt.Sprintf("%+v", s), "canary")) // nor is it kept
			})
		}
	}
}

// TestRoleExcludesTokens of both kinds: with one of them beside it, nobody can tell which is meant.
func TestRoleExcludesTokens(t *testing.T) {
	for variable, value := range map[string]string{"VAULT_TOKEN": "s.token", "VAULT_TOKEN_FILE": "/token"} {
		is := is.New(t)
		environment(t, map[string]string{"VAULT_ADDR": "http://127.0.0.1:8200", "VAULT_ROLE": "coffeebuddy", variable: value})
		s, err := coffeebuddy.Load()
		is.NoErr(err)
		is.Equal(len(s.Vault.Wrong), 1)
		is.Equal(s.Vault.Token.Reveal(), "")
	}
	is := is.New(t)
	environment(t, map[string]string{"VAULT_ADDR": "http://127.0.0.1:8200", "VAULT_ROLE": "coffee buddy"})
	s, err := coffeebuddy.Load()
	is.NoErr(err)
	is.Equal(s.Vault.Wrong[0].Variable, "VAULT_ROLE")
	environment(t, map[string]string{"VAULT_ADDR": "http://127.0.0.1:8200", "VAULT_ROLE": "coffeebuddy", "VAULT_AUTH_MOUNT": "a b"})
	s, err = coffeebuddy.Load()
	is.NoErr(err)
	is.Equal(s.Vault.Wrong[0].Variable, "VAULT_AUTH_MOUNT")
}

// TestSettingsThatNeedEachOther are wrong alone.
func TestSettingsThatNeedEachOther(t *testing.T) {
	for _, test := range []struct{ variable, value, missing string }{
		{"COFFEEBUDDY_LEDGER", "postgres://db:5432/coffee?sslmode=disable", "COFFEEBUDDY_LEDGER_SECRET"},
		{"COFFEEBUDDY_OAUTH_CLIENT", "secret/coffeebuddy/oauth", "COFFEEBUDDY_TOKEN_URL"},
	} {
		is := is.New(t)
		environment(t, map[string]string{test.variable: test.value})
		_, err := coffeebuddy.Load()
		is.True(err != nil)
		is.Equal(err.Error(), test.missing+": must be set where "+test.variable+" is")

		environment(t, map[string]string{test.variable: test.value, test.missing: "wrong"})
		_, err = coffeebuddy.Load()
		is.True(err != nil)
		is.Equal(strings.Count(err.Error(), test.missing), 1) // what is wrong with it, not that it is missing
	}
}

func TestDynamicCredentials(t *testing.T) {
	for secret, dynamic := range map[string]bool{
		"database/creds/coffeebuddy": true, "team/database:creds/coffeebuddy": true,
		"secret/coffeebuddy/database": false, "secret/creds/a/b": false, "secret/creds": false,
	} {
		is := is.New(t)
		environment(t, map[string]string{"COFFEEBUDDY_LEDGER": "postgres://db/coffee", "COFFEEBUDDY_LEDGER_SECRET": secret})
		s, err := coffeebuddy.Load()
		is.NoErr(err)
		is.Equal(s.Ledger.Dynamic(), dynamic)
	}
}

func TestVaultsOwnVariablesAreTakenOut(t *testing.T) {
	is := is.New(t)
	environment(t, map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:8200", "VAULT_TOKEN": "s.token",
		"VAULT_AGENT_ADDR": "http://127.0.0.1:1", "VAULT_SKIP_VERIFY": "maybe", "VAULT_WRAP_TTL": "1m", "VAULT_X": "",
	})
	s, err := coffeebuddy.Load()
	is.NoErr(err)
	is.Equal(len(s.Vault.Wrong), 0)
	for _, variable := range os.Environ() {
		is.True(!strings.HasPrefix(variable, "VAULT_"))
	}
}

// TestTokenFileWins over a token, even one that is wrong, and whether it is there or not.
func TestTokenFileWins(t *testing.T) {
	for _, token := range []string{"", "s.token", "can ary"} {
		is := is.New(t)
		environment(t, map[string]string{
			"VAULT_ADDR": "http://127.0.0.1:8200", "VAULT_TOKEN": token, "VAULT_TOKEN_FILE": "/nonexistent/token",
		})
		s, err := coffeebuddy.Load()
		is.NoErr(err)
		is.Equal(len(s.Vault.Wrong), 0)
		is.Equal(s.Vault.Token.Reveal(), "")
		is.Equal(s.Vault.TokenFile, "/nonexistent/token")
	}
}

// FuzzLoad sets one variable to anything at all: no panic, and no value in an error.
func FuzzLoad(f *testing.F) {
	variables := []string{
		"COFFEEBUDDY_APP_NAME", "COFFEEBUDDY_HTTP_HOST", "COFFEEBUDDY_HTTP_PORT", "COFFEEBUDDY_METRICS_PATH", "COFFEEBUDDY_CHECK_TTL",
		"COFFEEBUDDY_LOG_LEVEL", "VAULT_ADDR", "VAULT_TOKEN", "VAULT_NAMESPACE", "ORY_BASE_URL",
		"COFFEEBUDDY_EVENTS_SCOPE", "COFFEEBUDDY_SLACK_SECRET", "COFFEEBUDDY_DEBUG_ADDR",
		"COFFEEBUDDY_LEDGER", "K_SINK", "K_CE_OVERRIDES", "K_CA_CERTS", "VAULT_ROLE", "VAULT_AUTH_MOUNT",
	}
	for i, value := range []string{"x", "::1", "8080", "/metrics", "1s", "debug", "http://u:p@h/v1?q#f", " s.x\n", "ns", "https://h:1/p//", "events", "secret/a/b#c", "[::1]:1", "postgres://h/d?sslmode=require", "http://h/p?q", `{"extensions":{"a":"b"}}`, certificate, "role", "team/jwt"} {
		f.Add(i, value)
	}
	f.Fuzz(func(t *testing.T, variable int, value string) {
		if strings.Contains(value, "\x00") || variable < 0 || variable >= len(variables) {
			t.Skip("not something an environment can hold")
		}
		environment(t, map[string]string{variables[variable]: value})
		s, err := coffeebuddy.Load()
		said := fmt.Sprint(err, s.Vault.Wrong, s.Ory.Wrong)
		if len(value) > 30 && strings.Contains(said, value) { // shorter ones may stand in what is allowed
			t.Errorf("shown: %s", said)
		}
	})
}
