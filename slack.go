package coffeebuddy

import (
	"context"
	"errors"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/slack"

	"github.com/prometheus/client_golang/prometheus"
)

// addSlack adds the Slack endpoints, if the settings say where the signing secret is, and
// Slack's commands in any case: in dev an event drives them without Slack.
func addSlack(e *events.Events, h *handler.Handler, settings Settings, vault checks.Checker, registry *prometheus.Registry) (*slack.App, error) {
	config := slack.Config{
		AckAfter: settings.Slack.AckAfter,
		// Nobody waits for a receiver that was acknowledged for: it may take as long as
		// other work after a reply.
		Timeout:  max(settings.EventTimeout, time.Minute),
		Registry: registry,
		Mount:    h.Mount,
	}
	if kv := settings.Slack.Secret; kv != nil {
		config.Secret = func(ctx context.Context, version int) (string, int, error) {
			v, ok := vault.(*checks.Vault)
			if !ok {
				return "", 0, vault.Check(ctx) // which says that it is misconfigured
			}
			if version != 0 {
				return "", 0, errors.New("reading one version is not supported")
			}
			secret, err := v.Read(ctx, *kv)
			return secret, 0, err
		}
	}
	return slack.New(e, config)
}
