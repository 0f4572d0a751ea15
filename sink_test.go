package coffeebuddy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"coffeebuddy"
	"coffeebuddy/slack/slacktest"

	"github.com/matryer/is"
)

// TestSinkIsThereWithItsSetting: a durable command is acknowledged once the sink has it, and
// a function without a sink shows nothing of one.
func TestSinkIsThereWithItsSetting(t *testing.T) {
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":{"data":{"key":"any"},"metadata":{"version":3}}}`)
	}))
	defer vault.Close()
	var got http.Header
	status := http.StatusAccepted
	broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.WriteHeader(status)
	}))
	defer broker.Close()
	for _, test := range []struct{ name, sink string }{{"with", broker.URL}, {"without", ""}} {
		is := is.New(t)
		environment(t, map[string]string{
			"VAULT_ADDR": vault.URL, "VAULT_TOKEN": "s.canary", "COFFEEBUDDY_SLACK_SECRET": "secret/slack#key", "COFFEEBUDDY_ENVIRONMENT": "prod",
			"K_SINK": test.sink, "K_CE_OVERRIDES": `{"extensions":{"region":"north"}}`,
		})
		settings, err := coffeebuddy.Load()
		is.NoErr(err)
		f, err := coffeebuddy.NewFunction(settings, io.Discard, coffeebuddy.Features()...)
		is.NoErr(err)
		families, err := f.Metrics().Gather()
		is.NoErr(err)
		series := 0
		for _, family := range families {
			if strings.HasPrefix(family.GetName(), "coffeebuddy_sink_") {
				series += len(family.GetMetric())
			}
		}
		says := func() string {
			w := httptest.NewRecorder()
			f.ServeHTTP(w, slacktest.Command("any", "/coffee echo hello"))
			is.Equal(w.Code, http.StatusOK)
			return w.Body.String()
		}
		if test.sink == "" {
			is.Equal(series, 0)
			is.True(strings.Contains(says(), "hello")) // at once
			continue
		}
		is.Equal(series, 5)
		is.Equal(says(), "")
		is.Equal(got.Get("Ce-Type")+" "+got.Get("Ce-Region"), "com.slack.command north")
		is.True(strings.HasPrefix(got.Get("Ce-Coffeebuddysignature"), "v1-3-"))
		status = http.StatusRequestEntityTooLarge
		is.True(strings.Contains(says(), "ephemeral")) // not acknowledged, and the user knows
	}
}
