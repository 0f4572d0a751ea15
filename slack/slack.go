// Package slack is the way in for Slack: its requests are verified, become
// CloudEvents, and go to the receivers that any event goes to. Slack is answered
// within its three seconds, whatever the receiver does.
//
// A feature registers a slash command with [App.Command], and a receiver of clicks or
// of events with [events.Events.On]: the types are com.slack.interaction.* and
// com.slack.event.*, with the payload's or the event's own type at the end. A reply of
// a receiver is what the user sees; see [Ephemeral] and [InChannel].
//
// One that is not done when Slack must be answered goes on. Its reply is posted to the
// request's response_url then.
//
// What does not belong here: where the signing secret is kept, which comes in as a
// func, and what a command does.
package slack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"coffeebuddy/events"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what an App is made of. The zero value of every field is its default.
type Config struct {
	// Secret reads the app's signing secret, which Slack shows under Basic Information.
	// It is called when a request needs it, and seldom; see the package's documentation
	// in docs/slack.md. The text of its error is logged. Nil: there are no routes, and
	// the receivers can be driven by POST / in dev alone.
	Secret func(context.Context) (string, error)

	AckAfter time.Duration         // from a request's headers until it is acknowledged for a receiver that is not done. 0 stands for 1.8 s
	Timeout  time.Duration         // deadline of one receiver, from its request. 0 stands for a minute
	Registry prometheus.Registerer // where coffeebuddy_slack_requests_total is registered. Nil: nowhere

	// Mount adds a route to the server: a pattern such as "POST /slack/commands". It is needed
	// with Secret.
	Mount func(pattern string, next http.Handler) error

	// Hooks are where a response_url may lead: schemes with hosts. Empty stands for
	// https://hooks.slack.com and GovSlack's https://hooks.slack-gov.com.
	Hooks []string

	// Transport posts to response URLs. Nil stands for one that goes through the proxy
	// that HTTPS_PROXY names, if any.
	Transport http.RoundTripper
}

// An App is one Slack app: the three routes that Slack calls, and its commands.
type App struct {
	events   *events.Events
	config   Config
	commands map[string]events.Receiver // by "/coffee ping" or "/coffee"
	secrets  *secrets
	requests requests
	client   *http.Client // of response URLs
}

// New registers the command /coffee ping and, where there is a secret, mounts the
// routes. Call it before the function serves.
func New(e *events.Events, config Config) (*App, error) {
	config, err := withDefaults(config)
	if err != nil {
		return nil, fmt.Errorf("make the Slack app: %w", err)
	}
	a := &App{
		events: e, config: config, commands: make(map[string]events.Receiver),
		client: newClient(config.Transport),
	}
	if err := errors.Join(e.On(commandType, a.command), a.Command("/coffee ping", ping)); err != nil {
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
	a.secrets = &secrets{read: config.Secret, log: e.Log()}
	return a, errors.Join(
		config.Mount("POST /slack/commands", a.route(command, formType, a.commandOf)),
		config.Mount("POST /slack/interactions", a.route(interaction, formType, interactionOf)),
		config.Mount("POST /slack/events", a.route(deliveredEvent, jsonType, eventOf)),
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
		return c, errors.New("AckAfter is negative")
	case c.Timeout < 0:
		return c, errors.New("Timeout is negative")
	case c.Secret != nil && c.Mount == nil:
		return c, errors.New("Secret is set, and Mount is nil")
	}
	return c, nil
}

// Command registers the receiver of a slash command, such as "/coffee", or of one with
// a first word, such as "/coffee ping", which comes before the command without it. Its
// event is of the type com.slack.command; the data has Slack's fields, such as text and
// user_id. Call it before the function serves.
func (a *App) Command(name string, receiver events.Receiver) error {
	words := strings.Fields(name)
	switch {
	case len(words) == 0 || len(words) > 2 || strings.Join(words, " ") != name || !isCommand(words[0]) || name != strings.ToLower(name):
		return fmt.Errorf("register the command %q: it is not /command or /command word, in lower case", name)
	case receiver == nil:
		return fmt.Errorf("register the command %s: its receiver is nil", name)
	case a.commands[name] != nil:
		return fmt.Errorf("register the command %s: it has a receiver already", name)
	}
	a.commands[name] = receiver
	return nil
}
