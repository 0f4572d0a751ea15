package coffeebuddy_test

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"coffeebuddy"
	"coffeebuddy/vault"

	"github.com/matryer/is"
)

// TestLedgerIsAThirdComponent, where one is configured, and else nothing of it is there.
func TestLedgerIsAThirdComponent(t *testing.T) {
	t.Parallel()
	for _, configured := range []bool{false, true} {
		is := is.New(t)
		settings := coffeebuddy.Settings{AppName: "coffeebuddy", Environment: "test", MetricsPath: "/metrics"}
		settings.Vault.Address = "http://127.0.0.1:1"
		settings.Ory.BaseURL = "http://127.0.0.1:1"
		if configured {
			settings.Ledger.URL = "postgres://127.0.0.1:1/coffeebuddy"
			settings.Ledger.Secret = &vault.KV{Mount: "secret", Path: "coffeebuddy/database"}
		}
		f, err := coffeebuddy.NewFunction(settings, io.Discard)
		is.NoErr(err)
		ready, metrics := httptest.NewRecorder(), httptest.NewRecorder()
		f.ServeHTTP(ready, httptest.NewRequest("GET", "/health/ready", nil))
		f.ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
		is.Equal(strings.Contains(ready.Body.String(), `"ledger":{"status":"unavailable","reason":"`), configured)
		is.Equal(strings.Contains(metrics.Body.String(), "ledger"), configured)
		is.NoErr(f.Wait(t.Context()))
	}
}
