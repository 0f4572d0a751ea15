package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"coffeebuddy/slack/slacktest"

	"github.com/matryer/is"
)

// slashCommand is what Slack sends and Kong lets through: signed with the secret that Vault keeps, and with the Host that Kong writes.
func slashCommand(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	enabled := edit{"300-config.yaml", "  # COFFEEBUDDY_SLACK_SECRET:", "  COFFEEBUDDY_SLACK_SECRET:"}
	ko(t, "apply", "-f", s.manifests(t, "knative", settingsVersion(4), enabled))
	becomesReady(t, 2*time.Minute)

	gateway := startGateway(t, s.host) // the ingress of a test cluster may take a fifth of a second by itself
	const commands = 100
	var took, live []time.Duration
	eventually(t, 2*time.Minute, "the new revision answers", func() error {
		_, a, err := signed(ctx, gateway, s.vault.SigningSecret.Reveal(), "/coffee ping")
		if err == nil && a.code == http.StatusNotFound {
			err = errors.New("there is no Slack yet")
		}
		return err
	})
	for n := range commands {
		began := time.Now()
		a, err := gateway.get(ctx, "/health/live") // what the same way costs just now, without any work at its end
		live = append(live, time.Since(began))
		is.NoErr(err)
		is.Equal(a.code, http.StatusOK)
		d, a, err := signed(ctx, gateway, s.vault.SigningSecret.Reveal(), fmt.Sprintf("/coffee ping %d", n))
		is.NoErr(err)
		is.Equal(a.code, http.StatusOK)
		is.True(strings.Contains(a.body, "pong"))
		took = append(took, d)
	}
	slices.Sort(took)
	slices.Sort(live)
	s.figures.add(fmt.Sprintf("%d signed commands through the gateway: median, slowest, median of liveness", commands), "%d ms, %d ms, %d ms",
		took[commands/2].Milliseconds(), took[commands-1].Milliseconds(), live[commands/2].Milliseconds())
	is.True(took[commands/2] < live[commands/2]+200*time.Millisecond)
	is.True(took[commands-1] < 2850*time.Millisecond) // Kong would have given up

	_, a, err := signed(ctx, s.ingress, "another secret", "/coffee ping")
	is.NoErr(err)
	is.Equal(a.code, http.StatusUnauthorized)
	forged, err := s.ingress.send(ctx, http.MethodPost, "/", "{}", "Content-Type: application/json",
		"Ce-Specversion: 1.0", "Ce-Id: 1", "Ce-Source: /slack", "Ce-Type: com.slack.command")
	is.NoErr(err)
	is.Equal(forged.code, http.StatusUnprocessableEntity) // only the Slack routes speak for Slack
}

// signed sends a signed slash command, and returns how long its answer took.
func signed(ctx context.Context, to *caller, secret, typed string) (time.Duration, answer, error) {
	r := slacktest.Command(secret, typed)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, answer{}, err
	}
	var header []string
	for name := range r.Header {
		header = append(header, name+": "+r.Header.Get(name))
	}
	began := time.Now()
	a, err := to.send(ctx, http.MethodPost, r.URL.Path, string(body), header...)
	return time.Since(began), a, err
}
