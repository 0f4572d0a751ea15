package coffeebuddy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"coffeebuddy"
	"coffeebuddy/checks"
	"coffeebuddy/internal/servertest"
	"coffeebuddy/vault"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
)

// grinder is a third dependency.
type grinder struct{}

func (grinder) Name() string                { return "grinder" }
func (grinder) Check(context.Context) error { return checks.Fail(checks.ReasonRefused, "it is off") }

// TestAFeatureGetsThePlatform: what it registers is there, next to what every function has.
func TestAFeatureGetsThePlatform(t *testing.T) {
	is := is.New(t)
	environment(t, nil)
	settings, err := coffeebuddy.Load()
	is.NoErr(err)
	var logs servertest.Logs
	f, err := coffeebuddy.NewFunction(settings, &logs, func(p coffeebuddy.Platform) error {
		p.AddCheck(grinder{})
		return errors.Join(
			p.Events.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
				p.Log.InfoContext(ctx, "ordered")
				return nil, nil
			}),
			p.Slack.Command("/tea", func(context.Context, event.Event) (*event.Event, error) { return nil, nil }),
			p.Metrics.Register(prometheus.NewCounter(prometheus.CounterOpts{Name: "orders_total", Help: "Orders."})),
			p.Mount("GET /menu", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "coffee") })),
		)
	})
	is.NoErr(err)
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header = http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"coffee.ordered"}}
		f.ServeHTTP(w, r)
		return w
	}
	is.Equal(ask("POST", "/", "").Code, 204)
	is.Equal(ask("GET", "/menu", "").Body.String(), "coffee")
	is.True(strings.Contains(ask("GET", "/health/ready", "").Body.String(), `"grinder":{"status":"unavailable","reason":"refused"`))
	is.True(strings.Contains(ask("GET", "/metrics", "").Body.String(), "\norders_total 0\n"))
	is.True(regexp.MustCompile(`"msg":"ordered",.*"request_id":"`).MatchString(logs.String()))
}

// TestClientsWithoutSettings say so; none panics.
func TestClientsWithoutSettings(t *testing.T) {
	is := is.New(t)
	environment(t, nil)
	settings, err := coffeebuddy.Load()
	is.NoErr(err)
	_, err = coffeebuddy.NewFunction(settings, io.Discard, func(p coffeebuddy.Platform) error {
		_, err := p.Vault.Secret(t.Context(), vault.KV{Mount: "secret", Path: "coffee"})
		is.Equal(checks.ReasonOf(err), checks.ReasonMisconfigured)
		return nil
	})
	is.NoErr(err)
}

// TestAFeatureThatFails ends the start, and the error says what it was about.
func TestAFeatureThatFails(t *testing.T) {
	is := is.New(t)
	environment(t, nil)
	settings, err := coffeebuddy.Load()
	is.NoErr(err)
	_, err = coffeebuddy.NewFunction(settings, io.Discard, func(p coffeebuddy.Platform) error {
		return p.Events.On("coffee.ordered", nil)
	})
	is.True(err != nil)
	is.True(strings.Contains(err.Error(), "coffee.ordered"))
}
