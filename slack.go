package coffeebuddy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/slack"
	"coffeebuddy/vault"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
)

// newSlack returns the Slack app, with its endpoints if the settings say where the signing
// secret is. Its commands are there in any case: in dev an event drives them without Slack.
func newSlack(e *events.Engine, h *handler.Handler, settings Settings, client *vault.Client, registry prometheus.Registerer) (*slack.App, error) {
	config := slack.Config{
		AckAfter: settings.Slack.AckAfter,
		// Nobody waits for a receiver that was acknowledged for: it may take as long as
		// other work after a reply.
		Timeout:  max(settings.EventTimeout, time.Minute),
		Registry: registry,
		OnPanic:  e.CountPanic,
		Mount:    h.Mount,
	}
	if kv := settings.Slack.Secret; kv != nil {
		config.Secret = func(ctx context.Context, version int) (string, int, error) {
			secret, read, err := client.ReadVersion(ctx, *kv, version)
			if errors.Is(err, vault.ErrNotFound) {
				err = fmt.Errorf("%w: %w", err, slack.ErrNoVersion)
			}
			return secret, read, err
		}
	}
	return slack.New(e.Events, config)
}

// admit returns what decides on Slack's events that come to POST /, nil where nothing is
// signed.
func (f *Function) admit(settings Settings) func(context.Context, event.Event) error {
	if settings.Slack.Secret == nil {
		return nil
	}
	return func(ctx context.Context, e event.Event) error { return f.slack.Admit(ctx, e) }
}

// warnOpen says once what anybody who reaches POST / can do, because the environment is dev,
// which is what an unset COFFEEBUDDY_ENVIRONMENT stands for.
func warnOpen(settings Settings, log *slog.Logger) {
	if settings.Environment == "dev" && settings.Slack.Secret == nil && settings.EventsScope == "" {
		log.Warn("any sender of POST / may send events in Slack's name, such as commands of any user",
			"variable", "COFFEEBUDDY_ENVIRONMENT", "why", "it is dev, and neither a Slack secret nor an events scope is set")
	}
}
