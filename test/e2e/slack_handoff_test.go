package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// TestSlackIsAnsweredInTimeThroughTheSink measures the same command with a sink and without. It is not parallel to others: it
// measures time.
func TestSlackIsAnsweredInTimeThroughTheSink(t *testing.T) {
	const commands = 500
	is := is.New(t)
	p, b := startPlatform(t, devstack.VaultOptions{}), startBroker(t)
	for _, way := range []struct {
		name      string
		variables []string
	}{{"direct", nil}, {"through the sink", []string{"K_SINK=" + b.url}}} {
		f := startSlack(t, p, append(way.variables, "COFFEEBUDDY_LOG_LEVEL=info")...)
		f.becomes(t, healthy(), soon)
		var took []time.Duration
		for n := range commands + 1 {
			began := time.Now()
			a, err := f.command(t.Context(), p.vault.SigningSecret, fmt.Sprintf("/coffee echo %d", n))
			is.NoErr(err)
			is.Equal(a.status, http.StatusOK)
			if n > 0 { // the first one reads the secret
				took = append(took, time.Since(began))
			}
		}
		slices.Sort(took)
		t.Logf("%s: of %d commands, a new connection each, the median took %s, the slowest %s",
			way.name, commands, took[commands/2].Round(10*time.Microsecond), took[commands-1].Round(10*time.Microsecond))
		is.True(took[commands-1] < 2500*time.Millisecond)
	}
	is.Equal(len(b.events()), commands+1)
}
