package coffeebuddy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/slack"
	"coffeebuddy/vault"

	"github.com/prometheus/client_golang/prometheus"
)

// addSlack adds the Slack endpoints, if the settings say where the signing secret is, and
// Slack's commands in any case: in dev an event drives them without Slack.
func addSlack(e *events.Events, h *handler.Handler, settings Settings, client *vault.Client, registry *prometheus.Registry, panicked func()) (*slack.App, error) {
	config := slack.Config{
		AckAfter: settings.Slack.AckAfter,
		// Nobody waits for a receiver that was acknowledged for: it may take as long as
		// other work after a reply.
		Timeout:  max(settings.EventTimeout, time.Minute),
		Registry: registry,
		OnPanic:  panicked,
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
	return slack.New(e, config)
}
