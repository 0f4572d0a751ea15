package coffeebuddy

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"coffeebuddy/vault"

	"github.com/kelseyhightower/envconfig"
)

// Settings are what the function runs with, as [Load] read them. [Settings.table] has
// the variable, the default and the allowed values of each.
type Settings struct {
	AppName     string // name in logs and in coffeebuddy_build_info
	Environment string // dev, test or prod
	Echo        bool   // whether the two built-in receivers are registered

	HTTPHost    string // address to listen on
	Port        int    // port to listen on
	Connections int    // open at a time
	MetricsPath string // a plain absolute path that is no other route

	Vault VaultSettings
	Ory   OrySettings

	CheckTTL     time.Duration // how long a verdict on a dependency is fresh
	CheckTimeout time.Duration // deadline of one check
	ReadyGrace   time.Duration // how long a dependency that was healthy may fail before readiness does

	ShutdownTimeout time.Duration // how long in-flight work may take after SIGTERM
	EventsInFlight  int           // receivers at a time, of events and of Slack requests
	EventTimeout    time.Duration // deadline of one receiver
	EventsScope     string        // OAuth2 scope that POST / needs, "" for none
	EventsAudience  string        // must be among an access token's audiences, if it has any

	Slack  SlackSettings
	Sink   SinkSettings
	Ledger LedgerSettings
	OAuth  OAuthSettings

	DebugAddr netip.AddrPort // loopback, port 0 for any free one; not valid for none
	LogLevel  slog.Level

	Set     []string // variables that have a value, which may be wrong
	Unknown []string // variables that start with COFFEEBUDDY_ and mean nothing
	Ignored []string // variables that start with VAULT_ and mean nothing here, though they may to Vault's own programs
}

// VaultSettings are usable only if Wrong is empty. With a Role the function logs in and
// has neither Token nor TokenFile.
type VaultSettings struct {
	Address   string
	Token     Secret
	TokenFile string // wins over Token; read at each use
	Role      string // to log in with, "" for none
	AuthMount string // where the auth method of the login is mounted
	JWTFile   string // the service account token to log in with; read at each login
	Namespace string
	CACert    string
	Wrong     []Problem
}

// OrySettings are usable only if Wrong is empty.
type OrySettings struct {
	BaseURL string
	Wrong   []Problem
}

// SlackSettings configures the Slack endpoints, which are disabled without a secret.
type SlackSettings struct {
	Secret   *vault.KV     // where Vault keeps the signing secret; nil for no Slack
	AckAfter time.Duration // when the runtime acknowledges for a receiver that is not done
}

// SinkSettings says where events are sent, and how. Without a URL none are.
type SinkSettings struct {
	URL       string
	Overrides map[string]string // extension attributes, set last on every event that is sent
	CACerts   string            // PEM certificates to trust besides the system's
}

// LedgerSettings says where the memory of events is shared. Without a URL each process
// has its own.
type LedgerSettings struct {
	URL    string    // postgres://host:port/database?sslmode=…, without user and password
	Secret *vault.KV // where Vault has the user and the password; its Key is empty
}

// Dynamic reports whether Vault's database secrets engine makes the credentials.
func (l LedgerSettings) Dynamic() bool {
	return l.Secret != nil && strings.HasPrefix(l.Secret.Path, "creds/") && strings.Count(l.Secret.Path, "/") == 1
}

// OAuthSettings are for the tokens of outgoing calls.
type OAuthSettings struct {
	Client   *vault.KV // where Vault has client_id and client_secret; its Key is empty. Nil for none
	TokenURL string    // Hydra's public token endpoint
}

// table has a row for each variable, in the order in which wrong values are reported.
// Everything else follows from it: which names are known, defaults, what is allowed,
// [Settings.MarshalJSON], and the test of docs/reference.md. Rows may use the settings
// of rows above them.
func (s *Settings) table(own *[]Problem) []variable {
	ofVault, ofOry := &s.Vault.Wrong, &s.Ory.Wrong
	return []variable{
		{"COFFEEBUDDY_APP_NAME", own, name(&s.AppName, "coffeebuddy")},
		{"COFFEEBUDDY_ENVIRONMENT", own, oneOf(&s.Environment, "dev", "test", "prod")},
		{"COFFEEBUDDY_ECHO", own, boolean(&s.Echo, func() bool { return s.Environment != "prod" })},
		{"COFFEEBUDDY_HTTP_HOST", own, host(&s.HTTPHost, "0.0.0.0")},
		{"COFFEEBUDDY_HTTP_PORT", own, ownPort(&s.Port, 8080)},
		{"COFFEEBUDDY_CONNECTIONS", own, number(&s.Connections, 4096, 64, 65536)},
		{"COFFEEBUDDY_METRICS_PATH", own, metricsPath(&s.MetricsPath, "/metrics")},
		{"COFFEEBUDDY_CHECK_TTL", own, duration(&s.CheckTTL, time.Second, 50*time.Millisecond, 15*time.Second)},
		{"COFFEEBUDDY_CHECK_TIMEOUT", own, duration(&s.CheckTimeout, 2*time.Second, 50*time.Millisecond, 10*time.Second)},
		{"COFFEEBUDDY_READY_GRACE", own, duration(&s.ReadyGrace, 0, 0, 24*time.Hour)},
		{"COFFEEBUDDY_SHUTDOWN_TIMEOUT", own, duration(&s.ShutdownTimeout, 20*time.Second, time.Second, 10*time.Minute)},
		{"COFFEEBUDDY_EVENTS_IN_FLIGHT", own, number(&s.EventsInFlight, 32, 1, 10000)},
		{"COFFEEBUDDY_EVENT_TIMEOUT", own, duration(&s.EventTimeout, 10*time.Second, 50*time.Millisecond, 10*time.Minute)},
		{"COFFEEBUDDY_EVENTS_SCOPE", own, scope(&s.EventsScope)},
		{"COFFEEBUDDY_EVENTS_AUDIENCE", own, audience(&s.EventsAudience, &s.AppName)},
		{"COFFEEBUDDY_SLACK_SECRET", own, kvKey(&s.Slack.Secret)},
		{"COFFEEBUDDY_SLACK_ACK_AFTER", own, duration(&s.Slack.AckAfter, 1800*time.Millisecond, 100*time.Millisecond, 2*time.Second)},
		{"COFFEEBUDDY_LEDGER", own, databaseURL(&s.Ledger.URL)},
		{"COFFEEBUDDY_LEDGER_SECRET", own, kvPath(&s.Ledger.Secret)},
		{"COFFEEBUDDY_OAUTH_CLIENT", own, kvPath(&s.OAuth.Client)},
		{"COFFEEBUDDY_TOKEN_URL", own, endpoint(&s.OAuth.TokenURL)},
		{"COFFEEBUDDY_LOG_LEVEL", own, level(&s.LogLevel)},
		{"K_SINK", own, endpoint(&s.Sink.URL)},
		{"K_CE_OVERRIDES", own, overrides(&s.Sink.Overrides)},
		{"K_CA_CERTS", own, certificates(&s.Sink.CACerts)},
		{"PORT", own, port(&s.Port)}, // Knative injects it and dials no other: it wins
		{"COFFEEBUDDY_DEBUG_ADDR", own, debugAddr(&s.DebugAddr, &s.Port)},

		{"VAULT_ADDR", ofVault, baseURL(&s.Vault.Address, vaultAPI)},
		{"VAULT_NAMESPACE", ofVault, header(&s.Vault.Namespace)},
		{"VAULT_CACERT", ofVault, file(&s.Vault.CACert, "")},
		{"VAULT_TOKEN_FILE", ofVault, file(&s.Vault.TokenFile, "")},
		{"VAULT_ROLE", ofVault, role(&s.Vault.Role)},
		{"VAULT_AUTH_MOUNT", ofVault, mount(&s.Vault.AuthMount, "kubernetes", &s.Vault.Role)},
		{"VAULT_JWT_FILE", ofVault, file(&s.Vault.JWTFile, "/var/run/secrets/vault/token")},
		{"VAULT_TOKEN", ofVault, token(&s.Vault)},
		{"ORY_BASE_URL", ofOry, baseURL(&s.Ory.BaseURL, oryNetwork)},
	}
}

// A Problem is one variable that is missing or wrong: its name, and what is
// allowed. It never holds the value.
type Problem struct{ Variable, Why string }

func (p Problem) Error() string { return p.Variable + ": " + p.Why }

// Load reads the settings from the environment: the one place that does. Its error
// joins a [Problem] for each of the function's own variables that is wrong, all of
// them at once. What is wrong with a dependency's variables is in the settings:
// it makes the function not ready, not dead.
//
// Load unsets every VAULT_* variable, because Vault's client would read some twenty of
// them by itself.
func Load() (Settings, error) {
	var (
		s     Settings
		wrong []Problem
	)
	table := s.table(&wrong)
	texts, err := read(table)
	if err != nil {
		return Settings{}, err
	}
	s.Unknown, s.Ignored = unknown(table, "COFFEEBUDDY_"), unknown(table, "VAULT_")
	for _, name := range names("VAULT_") {
		if err := os.Unsetenv(name); err != nil {
			return Settings{}, fmt.Errorf("take %s out of the environment: %w", name, err)
		}
	}
	for i, v := range table {
		text := set(texts[i])
		if text != "" {
			s.Set = append(s.Set, v.name)
		}
		if why := v.parse(text); why != "" {
			*v.problems = append(*v.problems, Problem{v.name, why})
		}
	}
	wrong = append(wrong, s.together()...)

	all := make([]error, len(wrong))
	for i, p := range wrong {
		all[i] = p
	}
	return s, errors.Join(all...)
}

// together returns what is wrong with variables that only make sense with each other. One that
// is set, and wrong, was named already.
func (s *Settings) together() []Problem {
	var wrong []Problem
	if s.Ledger.URL != "" && !slices.Contains(s.Set, "COFFEEBUDDY_LEDGER_SECRET") {
		wrong = append(wrong, Problem{"COFFEEBUDDY_LEDGER_SECRET", "must be set where COFFEEBUDDY_LEDGER is"})
	}
	if s.OAuth.Client != nil && !slices.Contains(s.Set, "COFFEEBUDDY_TOKEN_URL") {
		wrong = append(wrong, Problem{"COFFEEBUDDY_TOKEN_URL", "must be set where COFFEEBUDDY_OAUTH_CLIENT is"})
	}
	return wrong
}

// read returns the text of each row's variable, "" for one that is not set. All of them
// are read as text, since envconfig stops at the first value that it cannot parse, and
// quotes it.
func read(table []variable) ([]string, error) {
	fields := make([]reflect.StructField, len(table))
	for i, v := range table {
		fields[i] = reflect.StructField{
			Name: "V" + strconv.Itoa(i), Type: reflect.TypeFor[string](),
			Tag: reflect.StructTag(`envconfig:"` + v.name + `"`),
		}
	}
	environment := reflect.New(reflect.StructOf(fields))
	if err := envconfig.Process("", environment.Interface()); err != nil {
		return nil, errors.New("read the environment: a variable cannot be decoded") // its own text quotes the value
	}
	texts := make([]string, len(table))
	for i := range texts {
		texts[i] = environment.Elem().Field(i).String()
	}
	return texts, nil
}

// set returns a value, "" if it counts as unset: func passes `{{ secret:… }}` and
// its like to a local run as they stand.
func set(value string) string {
	if _, after, ok := strings.Cut(value, "{{"); ok && strings.Contains(after, "}}") {
		return ""
	}
	return value
}

// unknown returns the variables that have a prefix and are in no row, by name.
func unknown(table []variable, prefix string) []string {
	return slices.DeleteFunc(names(prefix), func(name string) bool {
		return slices.ContainsFunc(table, func(v variable) bool { return v.name == name })
	})
}

// names returns the names of the environment's variables that have a prefix, sorted.
func names(prefix string) []string {
	var names []string
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Shown returns each variable with the value that counts, as it would be set, "" for none. A
// secret is redacted, as is any value that looks like one; of certificates there is the number.
func (s Settings) Shown() map[string]string {
	shown, redact := make(map[string]string), redactor()
	for _, v := range s.table(nil) {
		shown[v.name] = redact(v.show())
	}
	return shown
}

// MarshalJSON implements json.Marshaler: what [Settings.Shown] returns, but of a variable that
// is wrong there is only why.
func (s Settings) MarshalJSON() ([]byte, error) {
	shown := s.Shown()
	delete(shown, "COFFEEBUDDY_HTTP_PORT") // PORT stands for both
	wrong := make(map[string]string)
	for _, p := range slices.Concat(s.Vault.Wrong, s.Ory.Wrong) {
		wrong[p.Variable] = p.Why
		delete(shown, p.Variable)
	}
	return json.Marshal(struct {
		Set     map[string]string `json:"settings"`
		Wrong   map[string]string `json:"wrong,omitempty"`
		Unknown []string          `json:"unknown,omitempty"`
	}{shown, wrong, s.Unknown})
}
