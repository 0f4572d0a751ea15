package coffeebuddy_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"coffeebuddy"

	"github.com/matryer/is"
)

// shown is what a function tells of its settings.
type shown struct {
	Settings map[string]string
	Wrong    map[string]string
	Unknown  []string
}

// load returns what is shown of an environment, and its text.
func load(t *testing.T, variables map[string]string) (shown, string) {
	t.Helper()
	is := is.New(t)
	is.Helper()
	environment(t, variables)
	s, err := coffeebuddy.Load()
	is.NoErr(err)
	text, err := json.Marshal(s)
	is.NoErr(err)
	var what shown
	is.NoErr(json.Unmarshal(text, &what))
	return what, string(text)
}

// TestShownSettingsCanBeSet: each is as it was set, so that what one pod shows starts
// another, and none is the default of another.
func TestShownSettingsCanBeSet(t *testing.T) {
	is := is.New(t)
	variables := map[string]string{
		"COFFEEBUDDY_APP_NAME": "kaffee", "COFFEEBUDDY_ENVIRONMENT": "test", "COFFEEBUDDY_HTTP_HOST": "::1", "PORT": "8081",
		"COFFEEBUDDY_METRICS_PATH": "/m", "COFFEEBUDDY_CHECK_TTL": "60ms", "COFFEEBUDDY_CHECK_TIMEOUT": "70ms", "COFFEEBUDDY_READY_GRACE": "5s",
		"COFFEEBUDDY_SHUTDOWN_TIMEOUT": "6s", "COFFEEBUDDY_EVENTS_IN_FLIGHT": "7", "COFFEEBUDDY_EVENT_TIMEOUT": "8s", "COFFEEBUDDY_EVENTS_SCOPE": "events",
		"COFFEEBUDDY_SLACK_SECRET": "secret/coffeebuddy/slack#signing_secret", "COFFEEBUDDY_SLACK_ACK_AFTER": "900ms",
		"COFFEEBUDDY_DEBUG_ADDR": "127.0.0.1:6060", "COFFEEBUDDY_LOG_LEVEL": "warn",
		"VAULT_ADDR": "http://127.0.0.1:8200", "VAULT_TOKEN": "", "VAULT_TOKEN_FILE": "/token", "VAULT_NAMESPACE": "ns", "VAULT_CACERT": "/ca.pem",
		"VAULT_ROLE": "", "VAULT_AUTH_MOUNT": "jwt", "VAULT_JWT_FILE": "/jwt",
		"ORY_BASE_URL":     "http://127.0.0.1:4445/hydra",
		"COFFEEBUDDY_ECHO": "false", "COFFEEBUDDY_CONNECTIONS": "99", "COFFEEBUDDY_EVENTS_AUDIENCE": "us",
		"COFFEEBUDDY_LEDGER": "postgres://db:5432/coffee?sslmode=verify-full", "COFFEEBUDDY_LEDGER_SECRET": "database/creds/coffee",
		"COFFEEBUDDY_OAUTH_CLIENT": "team/kv:coffeebuddy/oauth", "COFFEEBUDDY_TOKEN_URL": "https://hydra.example.com/oauth2/token",
		"K_SINK": "https://broker.example.com/coffee", "K_CE_OVERRIDES": `{"extensions":{"team":"coffee"}}`, "K_CA_CERTS": certificate,
	}
	what, _ := load(t, variables)
	is.Equal(what.Settings["K_CA_CERTS"], "1 certificate") // the one that is not shown as it was set
	what.Settings["K_CA_CERTS"] = certificate
	is.Equal(what.Settings, variables)
	is.Equal(len(what.Wrong)+len(what.Unknown), 0)

	// docs/reference.md has the same variables; PORT stands for both of its own.
	text, err := os.ReadFile("docs/reference.md")
	is.NoErr(err)
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)`[^|]*\\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, row[1])
	}
	slices.Sort(documented)
	is.Equal(documented, slices.Sorted(maps.Keys(variables)))
}

func TestShownSettingsHoldNoSecret(t *testing.T) {
	is := is.New(t)
	what, text := load(t, map[string]string{"VAULT_TOKEN": " hvs.canary\n"})
	is.Equal(what.Settings["VAULT_TOKEN"], "[redacted]") // there is one
	is.True(!strings.Contains(text, "canary"))

	what, text = load(t, map[string]string{
		"VAULT_TOKEN": "hvs canary", "VAULT_ADDR": "http://canary:canary@host", "VAULT_NAMESPACE": "canaré\n", "ORY_BASE_URL": "http://host?canary", "COFFEEBUDDY_TOKEN": "canary",
	})
	is.Equal(what.Wrong, map[string]string{
		"VAULT_TOKEN": "must be printable ASCII without white space", "VAULT_ADDR": "must not hold a user or a password",
		"VAULT_NAMESPACE": "must be printable ASCII", "ORY_BASE_URL": "must not have a query or a fragment",
	})
	is.Equal(what.Unknown, []string{"COFFEEBUDDY_TOKEN"})
	for variable := range what.Wrong {
		_, there := what.Settings[variable]
		is.True(!there) // what is wrong may be anything
	}
	is.True(!strings.Contains(text, "canar"))
}

// TestShownSettingsHoldNoPastedCredential: a credential is often pasted where its file's path or
// another name belongs.
func TestShownSettingsHoldNoPastedCredential(t *testing.T) {
	for what, value := range map[string]string{
		"a token of Vault":                   "hvs.canary",
		"a batch token":                      "hvb.canary-canary",
		"a token in a path":                  "/var/run/hvs.canary",
		"an old token of Vault":              "s.canary",
		"an old token with its namespace":    "s.canarycanarycanarycanary.ns",
		"a JSON Web Token":                   "eyJhbGciOiJub25lIn0.canary.canary",
		"a JSON Web Token without signature": "eyJhbGciOiJub25lIn0.canary.",
		"an access token of Ory's":           "ory_at_canary",
		"an authorization code of Ory's":     "ory_ac_canary",
		"a bot token of Slack's":             "xoxb-canary",
		"an app token of Slack's":            "xapp-canary",
		"a header's value":                   "Bearer canary",
		"a URL with a user":                  "https://canary:canary@host/path",
		"a URL with a query":                 "https://host/path?canary",
	} {
		t.Run(what, func(t *testing.T) {
			is := is.New(t)
			for _, variable := range []string{"VAULT_TOKEN_FILE", "VAULT_JWT_FILE", "VAULT_CACERT", "VAULT_ROLE", "VAULT_NAMESPACE", "COFFEEBUDDY_APP_NAME", "COFFEEBUDDY_EVENTS_AUDIENCE"} {
				shown, text := load(t, map[string]string{variable: value})
				_, wrong := shown.Wrong[variable] // and then it is not shown either
				is.True(wrong || shown.Settings[variable] == "[redacted]")
				is.True(!strings.Contains(text, "canary"))
			}
		})
	}
}

func TestShownSettingsCountCertificates(t *testing.T) {
	is := is.New(t)
	what, text := load(t, map[string]string{"K_CA_CERTS": certificate + certificate})
	is.Equal(what.Settings["K_CA_CERTS"], "2 certificates")
	is.True(!strings.Contains(text, "BEGIN"))
}
