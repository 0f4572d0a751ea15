// Package slack is the way in for Slack: its requests are verified, become
// CloudEvents, and go to the receivers that any event goes to. Slack is answered
// within its three seconds, whatever the receiver does.
//
// A feature registers a slash command with [App.Command], and a receiver of clicks or
// of events with [handler.Handler.On]: the types are com.slack.interaction.* and
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

	"coffeebuddy/handler"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what an App is made of.
type Config struct {
	// Secret reads the app's signing secret, which Slack shows under Basic Information.
	// It is called when a request needs it, and seldom; see the package's documentation
	// in docs/slack.md. The text of its error is logged. Nil: there are no routes, and
	// the receivers can be driven by POST / in dev alone.
	Secret func(context.Context) (string, error)

	AckAfter time.Duration        // from a request's headers until it is answered for a receiver that is not done
	Timeout  time.Duration        // deadline of one receiver, from its request
	Registry *prometheus.Registry // where coffeebuddy_slack_requests_total is registered

	// Hooks are where a response_url may lead: schemes with hosts. Empty stands for
	// https://hooks.slack.com and GovSlack's https://hooks.slack-gov.com.
	Hooks []string

	// Transport posts to response URLs. Nil stands for one that goes through the proxy
	// that HTTPS_PROXY names, if any.
	Transport http.RoundTripper
}

// An App is one Slack app: the three routes that Slack calls, and its commands.
type App struct {
	handler  *handler.Handler
	config   Config
	commands map[string]handler.Receiver // by "/coffee ping" or "/coffee"
	secrets  *secrets
	requests requests
	client   *http.Client // of response URLs
}

// New registers the command /coffee ping and, where there is a secret, mounts the
// routes. Call it before the handler serves.
func New(h *handler.Handler, config Config) (*App, error) {
	if len(config.Hooks) == 0 {
		config.Hooks = []string{"https://hooks.slack.com", "https://hooks.slack-gov.com"}
	}
	a := &App{
		handler: h, config: config, commands: make(map[string]handler.Receiver),
		client: newClient(config.Transport),
	}
	if err := errors.Join(h.On(commandType, a.command), a.Command("/coffee ping", ping)); err != nil {
		return nil, err
	}
	a.requests = newRequests()
	if err := config.Registry.Register(a.requests.vec); err != nil {
		return nil, fmt.Errorf("register Slack's metrics: %w", err)
	}
	if config.Secret == nil {
		return a, nil
	}
	a.secrets = &secrets{read: config.Secret, log: h.Log()}
	return a, errors.Join(
		h.Mount("POST /slack/commands", a.route(command, formType, a.commandOf)),
		h.Mount("POST /slack/interactions", a.route(interaction, formType, interactionOf)),
		h.Mount("POST /slack/events", a.route(deliveredEvent, jsonType, eventOf)),
	)
}

// Command registers the receiver of a slash command, such as "/coffee", or of one with
// a first word, such as "/coffee ping", which comes before the command without it. Its
// event is of the type com.slack.command; the data has Slack's fields, such as text and
// user_id. Call it before the handler serves.
func (a *App) Command(name string, receiver handler.Receiver) error {
	words := strings.Fields(name)
	switch {
	case len(words) == 0 || len(words) > 2 || strings.Join(words, " ") != name || !isCommand(words[0]) || name != strings.ToLower(name):
		return fmt.Errorf("register the command %q: it is not /command or /command word, in small letters", name)
	case receiver == nil:
		return fmt.Errorf("register the command %s: its receiver is nil", name)
	case a.commands[name] != nil:
		return fmt.Errorf("register the command %s: it has a receiver already", name)
	}
	a.commands[name] = receiver
	return nil
}
