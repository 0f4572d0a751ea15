package coffeebuddy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"coffeebuddy"
	"coffeebuddy/slack/slacktest"

	"github.com/matryer/is"
)

// TestSlackIsThereWithItsSetting, and nothing is believed without a Vault.
func TestSlackIsThereWithItsSetting(t *testing.T) {
	for _, test := range []struct {
		environment                map[string]string
		get, forged, signed, event int
	}{
		{nil, 404, 404, 404, 200},
		{map[string]string{"COFFEEBUDDY_SLACK_SECRET": "secret/slack#key"}, 405, 401, 503, 422},
		{map[string]string{"COFFEEBUDDY_SLACK_SECRET": "secret/slack#key", "COFFEEBUDDY_ENVIRONMENT": "prod"}, 405, 401, 503, 422},
		{map[string]string{"COFFEEBUDDY_SLACK_SECRET": "secret/slack#key", "VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "s.canary"}, 405, 401, 503, 422},
	} {
		is := is.New(t)
		environment(t, test.environment)
		settings, err := coffeebuddy.Load()
		is.NoErr(err)
		var logs strings.Builder
		f, err := coffeebuddy.NewFunction(settings, &logs, coffeebuddy.Features()...)
		is.NoErr(err)
		status := func(r *http.Request) int {
			w := httptest.NewRecorder()
			f.ServeHTTP(w, r)
			return w.Code
		}
		is.Equal(status(httptest.NewRequest("GET", "/slack/commands", nil)), test.get)
		is.Equal(status(httptest.NewRequest("POST", "/slack/commands", nil)), test.forged)
		is.Equal(status(slacktest.Command("any", "/coffee ping")), test.signed)
		r := httptest.NewRequest("POST", "/", strings.NewReader(`{"command":"/coffee","text":"ping"}`))
		r.Header = http.Header{
			"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"com.slack.command"}, "Content-Type": {"application/json"},
		}
		is.Equal(status(r), test.event) // without Slack, and unsigned
		open := settings.Environment == "dev" && settings.Slack.Secret == nil
		is.Equal(strings.Contains(logs.String(), "COFFEEBUDDY_ENVIRONMENT"), open) // a warning says what is open
		is.True(!strings.Contains(logs.String(), "canary"))
		is.True(!strings.Contains(logs.String(), "secret/slack"))
	}
}
