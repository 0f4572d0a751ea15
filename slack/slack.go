// Package slack serves the Slack endpoints: it verifies Slack's requests, turns them into
// CloudEvents, and dispatches them to the same receivers as any event. Slack gets a response
// within its three seconds, however long the receiver takes.
//
// A feature registers receivers: for a slash command with [App.Command], for clicks with
// [App.Interaction], and for events with [App.Event]. Their events have the types
// com.slack.command, com.slack.interaction.* and com.slack.event.*, which end in the payload's or
// the event's own type. The user sees the receiver's reply; see [Ephemeral] and [InChannel].
//
// A receiver that is still running when Slack must get a response keeps running; its reply is
// posted to the request's response_url. If the pod may stop before that, see [Durable].
//
// This package does not know where the signing secret is stored (the caller passes a func) or what
// a command does.
package slack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/internal/bounded"
	"coffeebuddy/internal/single"

	"github.com/prometheus/client_golang/prometheus"
)

// Config configures an App. The zero value of every field is its default.
type Config struct {
	// Secret reads one version of the app's signing secret, 0 for the current one, and returns the
	// version that it read. Slack shows the secret under Basic Information. Secret is called when a
	// request needs it, and rarely; see docs/slack.md. The text of its error is logged; an error
	// that wraps ErrNoVersion means that the version does not exist, or no longer exists. If Secret
	// is nil, no routes are mounted, and receivers can be reached only through POST / in dev.
	Secret func(ctx context.Context, version int) (secret string, read int, err error)

	AckAfter time.Duration         // time from a request's headers until it is acknowledged while its receiver is still running. 0 means 1.8 s
	Timeout  time.Duration         // timeout of one receiver, from the start of its request. 0 means one minute
	Registry prometheus.Registerer // registers coffeebuddy_slack_requests_total. Nil: not registered

	// Mount adds a route to the server, for a pattern such as "POST /slack/commands". It is
	// required if Secret is set.
	Mount func(pattern string, next http.Handler) error

	// Hooks lists where a response_url may point: scheme and host. Empty means
	// https://hooks.slack.com and GovSlack's https://hooks.slack-gov.com.
	Hooks []string

	OnPanic func() // counts panics of Secret. Nil: not counted

	// Transport posts to response URLs. Nil means one that uses the proxy in HTTPS_PROXY, if set.
	Transport http.RoundTripper
}

// An App is one Slack app: the three routes that Slack calls, and its commands.
type App struct {
	events   *events.Events
	config   Config
	slots    *events.Limit
	commands map[string]registration // key: "/coffee ping" or "/coffee"
	durable  map[string]bool         // key: type of interaction or event
	secrets  *secrets                // nil without a secret
	bodies   bounded.Budget          // for all bodies in memory
	requests requests
	client   *http.Client // for response URLs
}

// ErrNoVersion means that the secret has no such version.
var ErrNoVersion = errors.New("there is no such version of the secret")

// New returns an App without commands. If there is a secret, it mounts the routes. Call it before
// the function serves.
func New(e *events.Events, config Config) (*App, error) {
	config, err := withDefaults(config)
	if err != nil {
		return nil, fmt.Errorf("make the Slack app: %w", err)
	}
	a := &App{
		events: e, config: config, slots: e.NewLimit(),
		commands: make(map[string]registration), durable: make(map[string]bool),
		client: newClient(config.Transport),
		bodies: bounded.Budget{Limit: max(min(bodiesLimit, debug.SetMemoryLimit(-1)/shareOfMemory), payloadLimit+1)}, // -1 only reads the limit
	}
	if config.Secret != nil {
		a.secrets = &secrets{read: config.Secret, log: e.Log(), reads: single.Work{
			Name: "read of Slack's signing secret", Timeout: readTimeout, Log: e.Log(), OnPanic: config.OnPanic,
		}}
	}
	var whole []events.Option
	if a.HasSink() { // a broker may deliver a command twice
		whole = []events.Option{events.Deduplicate(trustAge)}
	}
	if err := e.On(commandType, a.delivered(a.command), whole...); err != nil {
		return nil, err
	}
	a.requests = newRequests()
	if config.Registry != nil {
		if err := config.Registry.Register(a.requests.vec); err != nil {
			return nil, fmt.Errorf("register Slack's metrics: %w", err)
		}
	}
	if config.Secret == nil {
		return a, nil
	}
	return a, errors.Join(
		config.Mount("POST /slack/commands", a.serve(route{command, formType, commandLimit, a.commandOf})),
		config.Mount("POST /slack/interactions", a.serve(route{interaction, formType, payloadLimit, a.interactionOf})),
		config.Mount("POST /slack/events", a.serve(route{deliveredEvent, jsonType, payloadLimit, a.eventOf})),
	)
}

// withDefaults fills in the defaults, and returns an error for an invalid Config.
func withDefaults(c Config) (Config, error) {
	if c.AckAfter == 0 {
		c.AckAfter = 1800 * time.Millisecond
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if len(c.Hooks) == 0 {
		c.Hooks = []string{"https://hooks.slack.com", "https://hooks.slack-gov.com"}
	}
	switch {
	case c.AckAfter < 0:
		return c, errors.New("a negative AckAfter")
	case c.Timeout < 0:
		return c, errors.New("a negative Timeout")
	case c.Secret != nil && c.Mount == nil:
		return c, errors.New("a Secret without Mount")
	}
	return c, nil
}

// Command registers the receiver for a slash command, such as "/coffee", or for one with its first
// argument, such as "/coffee ping". The longer name takes precedence. The event has the type
// com.slack.command; its data has Slack's fields, such as text and user_id. Call it before the
// function serves.
func (a *App) Command(name string, receiver events.Receiver, given ...Option) error {
	words := strings.Fields(name)
	o, err := a.apply(given)
	switch {
	case len(words) == 0 || len(words) > 2 || strings.Join(words, " ") != name || !isCommand(words[0]) || name != strings.ToLower(name):
		return fmt.Errorf("register the command %q: it is not /command or /command word, in lower case", name)
	case receiver == nil:
		return fmt.Errorf("register the command %s: its receiver is nil", name)
	case a.commands[name].receive != nil:
		return fmt.Errorf("register the command %s: it has a receiver already", name)
	case err != nil:
		return fmt.Errorf("register the command %s: %w", name, err)
	}
	a.commands[name] = registration{receiver, o.durable}
	return nil
}
