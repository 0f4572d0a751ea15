package coffeebuddy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"coffeebuddy/checks"

	"github.com/kelseyhightower/envconfig"
)

// Settings are what the function runs with, as [Load] read them.
type Settings struct {
	AppName     string // name in logs and in coffeebuddy_build_info
	Environment string // dev, test or prod

	HTTPHost    string // address to listen on
	Port        int    // port to listen on
	MetricsPath string // a plain absolute path that is no other route

	Vault VaultSettings
	Ory   OrySettings

	CheckTTL     time.Duration // how long a verdict on a dependency is fresh
	CheckTimeout time.Duration // deadline of one check
	ReadyGrace   time.Duration // how long a dependency that was healthy may fail before readiness does

	ShutdownTimeout time.Duration // how long in-flight work may take after SIGTERM
	EventsInFlight  int           // events and Slack requests at a time
	EventTimeout    time.Duration // deadline of one receiver
	EventsScope     string        // OAuth2 scope that POST / needs, "" for none

	Slack SlackSettings

	DebugAddr netip.AddrPort // loopback, port 0 for any free one; not valid for none
	LogLevel  slog.Level

	Unknown []string // variables that start with COFFEEBUDDY_ and mean nothing
}

// VaultSettings are usable only if Wrong is empty.
type VaultSettings struct {
	Address   string
	Token     Secret
	TokenFile string // wins over Token; read at each use
	Namespace string
	CACert    string
	Wrong     []Problem
}

// OrySettings are usable only if Wrong is empty.
type OrySettings struct {
	BaseURL string
	Wrong   []Problem
}

// SlackSettings are of the way in for Slack, which there is only with a secret.
type SlackSettings struct {
	Secret   *checks.KV    // where Vault keeps the signing secret; nil for no Slack
	AckAfter time.Duration // when the runtime acknowledges for a receiver that is not done
}

// A Problem is one variable that is missing or wrong: its name, and what is
// allowed. It never holds the value.
type Problem struct{ Variable, Why string }

func (p Problem) Error() string { return p.Variable + ": " + p.Why }

// environment is each variable as it came: text, since envconfig stops at the
// first value that does not parse, and quotes it.
type environment struct {
	AppName         string `envconfig:"COFFEEBUDDY_APP_NAME"`
	Environment     string `envconfig:"COFFEEBUDDY_ENVIRONMENT"`
	HTTPHost        string `envconfig:"COFFEEBUDDY_HTTP_HOST"`
	HTTPPort        string `envconfig:"COFFEEBUDDY_HTTP_PORT"`
	Port            string `envconfig:"PORT"`
	MetricsPath     string `envconfig:"COFFEEBUDDY_METRICS_PATH"`
	CheckTTL        string `envconfig:"COFFEEBUDDY_CHECK_TTL"`
	CheckTimeout    string `envconfig:"COFFEEBUDDY_CHECK_TIMEOUT"`
	ReadyGrace      string `envconfig:"COFFEEBUDDY_READY_GRACE"`
	ShutdownTimeout string `envconfig:"COFFEEBUDDY_SHUTDOWN_TIMEOUT"`
	EventsInFlight  string `envconfig:"COFFEEBUDDY_EVENTS_IN_FLIGHT"`
	EventTimeout    string `envconfig:"COFFEEBUDDY_EVENT_TIMEOUT"`
	EventsScope     string `envconfig:"COFFEEBUDDY_EVENTS_SCOPE"`
	SlackSecret     string `envconfig:"COFFEEBUDDY_SLACK_SECRET"`
	SlackAckAfter   string `envconfig:"COFFEEBUDDY_SLACK_ACK_AFTER"`
	DebugAddr       string `envconfig:"COFFEEBUDDY_DEBUG_ADDR"`
	LogLevel        string `envconfig:"COFFEEBUDDY_LOG_LEVEL"`
	VaultAddr       string `envconfig:"VAULT_ADDR"`
	VaultToken      Secret `envconfig:"VAULT_TOKEN"`
	VaultTokenFile  string `envconfig:"VAULT_TOKEN_FILE"`
	VaultNamespace  string `envconfig:"VAULT_NAMESPACE"`
	VaultCACert     string `envconfig:"VAULT_CACERT"`
	OryBaseURL      string `envconfig:"ORY_BASE_URL"`
}

// Load reads the settings from the environment: the one place that does. Its error
// joins a [Problem] for each of the function's own variables that is wrong, all of
// them at once. What is wrong with a dependency's variables is in the settings:
// it makes the function not ready, not dead.
//
// It takes every VAULT_* variable out of the environment, because Vault's client
// would read some twenty of them by itself.
func Load() (Settings, error) {
	var env environment
	if err := envconfig.Process("", &env); err != nil {
		return Settings{}, errors.New("read the environment: a variable cannot be decoded") // its own text quotes the value
	}
	for _, name := range names("VAULT_") {
		if err := os.Unsetenv(name); err != nil {
			return Settings{}, fmt.Errorf("take %s out of the environment: %w", name, err)
		}
	}
	return env.settings(unknown())
}

// settings checks each variable and gives those that are unset their default.
func (env environment) settings(unknown []string) (Settings, error) {
	var wrong problems
	s := Settings{
		AppName:         wrong.name("COFFEEBUDDY_APP_NAME", env.AppName, "coffeebuddy"),
		Environment:     wrong.oneOf("COFFEEBUDDY_ENVIRONMENT", env.Environment, "dev", "test", "prod"),
		HTTPHost:        wrong.host("COFFEEBUDDY_HTTP_HOST", env.HTTPHost, "0.0.0.0"),
		Port:            wrong.number("COFFEEBUDDY_HTTP_PORT", env.HTTPPort, 8080, 1, 65535),
		MetricsPath:     wrong.metricsPath("COFFEEBUDDY_METRICS_PATH", env.MetricsPath, "/metrics"),
		CheckTTL:        wrong.duration("COFFEEBUDDY_CHECK_TTL", env.CheckTTL, time.Second, 50*time.Millisecond, 15*time.Second),
		CheckTimeout:    wrong.duration("COFFEEBUDDY_CHECK_TIMEOUT", env.CheckTimeout, 2*time.Second, 50*time.Millisecond, 10*time.Second),
		ReadyGrace:      wrong.duration("COFFEEBUDDY_READY_GRACE", env.ReadyGrace, 0, 0, 24*time.Hour),
		ShutdownTimeout: wrong.duration("COFFEEBUDDY_SHUTDOWN_TIMEOUT", env.ShutdownTimeout, 20*time.Second, time.Second, 10*time.Minute),
		EventsInFlight:  wrong.number("COFFEEBUDDY_EVENTS_IN_FLIGHT", env.EventsInFlight, 32, 1, 10000),
		EventTimeout:    wrong.duration("COFFEEBUDDY_EVENT_TIMEOUT", env.EventTimeout, 10*time.Second, 50*time.Millisecond, 10*time.Minute),
		EventsScope:     wrong.scope("COFFEEBUDDY_EVENTS_SCOPE", env.EventsScope),
		Slack: SlackSettings{
			Secret:   wrong.kv("COFFEEBUDDY_SLACK_SECRET", env.SlackSecret),
			AckAfter: wrong.duration("COFFEEBUDDY_SLACK_ACK_AFTER", env.SlackAckAfter, 1800*time.Millisecond, 100*time.Millisecond, 2*time.Second),
		},
		LogLevel: wrong.level("COFFEEBUDDY_LOG_LEVEL", env.LogLevel),
		Unknown:  unknown,
	}
	// Knative injects PORT and dials no other. Where both are set, both must be right.
	s.Port = wrong.number("PORT", env.Port, s.Port, 1, 65535)
	s.DebugAddr = wrong.debugAddr("COFFEEBUDDY_DEBUG_ADDR", env.DebugAddr, s.Port)

	var vault problems
	s.Vault = VaultSettings{
		Address:   vault.baseURL("VAULT_ADDR", env.VaultAddr, vaultAPI),
		TokenFile: set(env.VaultTokenFile),
		Namespace: vault.header("VAULT_NAMESPACE", env.VaultNamespace),
		CACert:    set(env.VaultCACert),
	}
	if s.Vault.TokenFile == "" {
		s.Vault.Token = vault.token("VAULT_TOKEN", env.VaultToken)
	}
	s.Vault.Wrong = vault

	var ory problems
	s.Ory.BaseURL = ory.baseURL("ORY_BASE_URL", env.OryBaseURL, oryNetwork)
	s.Ory.Wrong = ory

	return s, wrong.join()
}

// unknown returns the variables that look like ours and are not, by name.
func unknown() []string {
	known := make(map[string]bool)
	for field := range reflect.TypeFor[environment]().Fields() {
		known[field.Tag.Get("envconfig")] = true
	}
	return slices.DeleteFunc(names("COFFEEBUDDY_"), func(name string) bool { return known[name] })
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
