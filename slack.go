package coffeebuddy

import (
	"context"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/slack"

	"github.com/prometheus/client_golang/prometheus"
)

// addSlack adds the way in for Slack, if its settings say where the signing secret is,
// and its commands in any case: in dev an event drives them without Slack.
func addSlack(e *events.Events, h *handler.Handler, settings Settings, vault checks.Checker, registry *prometheus.Registry) error {
	config := slack.Config{
		AckAfter: settings.Slack.AckAfter,
		// Nobody waits for a receiver that was acknowledged for: it may take as long as
		// other work after a reply.
		Timeout:  max(settings.EventTimeout, time.Minute),
		Registry: registry,
		Mount:    h.Mount,
	}
	if kv := settings.Slack.Secret; kv != nil {
		config.Secret = func(ctx context.Context) (string, error) {
			v, ok := vault.(*checks.Vault)
			if !ok {
				return "", vault.Check(ctx) // which says that it is misconfigured
			}
			return v.Read(ctx, *kv)
		}
	}
	_, err := slack.New(e, config)
	return err
}
