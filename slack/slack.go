// Package slack serves the Slack endpoints: it verifies Slack's requests, turns them into
// CloudEvents, and dispatches them to the same receivers as any event. Slack gets a response
// within its three seconds, however long the receiver takes.
//
// A feature registers a slash command with [App.Command], a receiver of clicks with
// [App.Interaction], and one of events with [App.Event]. The types of their events are
// com.slack.command, com.slack.interaction.* and com.slack.event.*, with the payload's or
// the event's own type at the end. A reply of a receiver is what the user sees; see
// [Ephemeral] and [InChannel].
//
// A receiver that is still running when Slack must get a response keeps running; its reply is
// posted to the request's response_url. If the pod may stop before that, see [Durable].
//
// What does not belong here: where the signing secret is kept, which comes in as a
// func, and what a command does.
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

// Config is what an App is made of. The zero value of every field is its default.
type Config struct {
	// Secret reads the app's signing secret, which Slack shows under Basic Information: one
	// of its versions, 0 for the current one. It returns the version that it read. It is
	// called when a request needs it, and seldom; see docs/slack.md. The text of its error
	// is logged; one that wraps ErrNoVersion says that there is no such version, or no more.
	// Nil: there are no routes, and the receivers can be driven by POST / in dev alone.
	Secret func(ctx context.Context, version int) (secret string, read int, err error)

	AckAfter time.Duration         // from a request's headers until it is acknowledged for a receiver that is not done. 0 stands for 1.8 s
	Timeout  time.Duration         // deadline of one receiver, from its request. 0 stands for a minute
	Registry prometheus.Registerer // where coffeebuddy_slack_requests_total is registered. Nil: nowhere

	// Mount adds a route to the server: a pattern such as "POST /slack/commands". It is needed
	// with Secret.
	Mount func(pattern string, next http.Handler) error

	// Hooks are where a response_url may lead: schemes with hosts. Empty stands for
	// https://hooks.slack.com and GovSlack's https://hooks.slack-gov.com.
	Hooks []string

	OnPanic func() // counts panics of Secret. Nil: counts none

	// Transport posts to response URLs. Nil stands for one that goes through the proxy
	// that HTTPS_PROXY names, if any.
	Transport http.RoundTripper
}

// An App is one Slack app: the three routes that Slack calls, and its commands.
type App struct {
	events   *events.Events
	config   Config
	slots    *events.Limit
	commands map[string]registration // by "/coffee ping" or "/coffee"
	durable  map[string]bool         // by the type of interactions and of events
	secrets  *secrets                // nil for none
	bodies   bounded.Budget          // of all bodies in memory
	requests requests
	client   *http.Client // of response URLs
}

// ErrNoVersion is the error that the secret has no such version.
var ErrNoVersion = errors.New("there is no such version of the secret")

// New returns an App without commands. Where there is a secret, it mounts the routes. Call
// it before the function serves.
func New(e *events.Events, config Config) (*App, error) {
	config, err := withDefaults(config)
	if err != nil {
		return nil, fmt.Errorf("make the Slack app: %w", err)
	}
	a := &App{
		events: e, config: config, slots: e.NewLimit(),
		commands: make(map[string]registration), durable: make(map[string]bool),
		client: newClient(config.Transport),
		bodies: bounded.Budget{Limit: max(min(bodiesLimit, debug.SetMemoryLimit(-1)/shareOfMemory), payloadLimit+1)}, // -1 sets nothing
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

// withDefaults returns a Config without zero values, or what is wrong with it.
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

// Command registers the receiver of a slash command, such as "/coffee", or of one with
// a first word, such as "/coffee ping", which comes before the command without it. Its
// event is of the type com.slack.command; the data has Slack's fields, such as text and
// user_id. Call it before the function serves.
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
