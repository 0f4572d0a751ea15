package coffeebuddy

import (
	"log/slog"
	"net/http"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/features/ping"
	"coffeebuddy/ledger"
	"coffeebuddy/ory"
	"coffeebuddy/slack"
	"coffeebuddy/vault"

	"github.com/prometheus/client_golang/prometheus"
)

// Features are the features of this function, in the order in which they register
// themselves. A feature is a package below features/ with a function that registers what
// it receives; its line here gives it what it needs of the [Platform].
func Features() []Feature {
	return []Feature{
		func(p Platform) error { return ping.Register(p.Slack) },
	}
}

// A Feature registers itself. Its error ends the start of the function.
type Feature func(Platform) error

// A Platform is what a feature may use. Without its settings a client of it is there all
// the same, and each of its calls is an error that says so.
type Platform struct {
	Events   *events.Events // receive, send and dispatch events; work after the response
	Slack    *slack.App     // commands, interactions and events
	Vault    *vault.Client  // secrets and dynamic credentials
	Ory      *ory.Client    // any of the Ory server's APIs
	Outgoing *ory.Outgoing  // HTTP clients whose requests carry an access token
	Ledger   *ledger.Ledger // nil without COFFEEBUDDY_LEDGER, where there is no events.Transactional; see ledger.Tx
	Log      *slog.Logger   // with a context of a receiver, its lines have the request's id and trace
	Metrics  prometheus.Registerer

	Mount    func(pattern string, route http.Handler) error // a route of its own, such as "POST /orders"
	AddCheck func(checks.Checker)                           // a further dependency that readiness asks
}
