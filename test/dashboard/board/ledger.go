package board

import "github.com/grafana/grafana-foundation-sdk/go/units"

// ledger is what pods remember events in together; without COFFEEBUDDY_LEDGER its panels are empty.
func ledger() row {
	return row{title: "Ledger", panels: []panel{
		{
			kind: stacked, title: "Claims by outcome", width: 8, unit: units.EventsPerSecond, empty: "no ledger",
			description: "`claimed` events ran, `answered` ones are duplicates that got the first one's response, `running` ones got 409. `failed` is a database that could not be asked, " +
				"`lost` a claim whose lease had ended, `mismatch` other data under the same id. [What is promised](${repository}/docs/ledger.md#what-is-promised)",
			queries: []query{{`sum by (outcome) (rate(coffeebuddy_ledger_claims_total{$pods}[$__rate_interval]))`, "{{outcome}}"}},
		},
		{
			kind: lines, title: "Duration on the database", width: 8, unit: units.Seconds, empty: "no ledger",
			description: "The 50th and 99th percentile by operation. An event waits for a claim and for settling it, or for a commit. Slow for long: the database, or the network to it. " +
				"[Sizing and care](${repository}/docs/ledger.md#sizing-and-care)",
			queries: quantiles("coffeebuddy_ledger_duration_seconds", `$pods`, "operation"),
		},
		{
			kind: lines, title: "Connections to the database", width: 8, unit: units.Short, empty: "no ledger",
			description: "Of all pods. `in use` at the maximum for long means that claims wait for a connection. The database's max_connections has to be above the maximum. " +
				"[Sizing and care](${repository}/docs/ledger.md#sizing-and-care)",
			queries: []query{
				{`sum(coffeebuddy_ledger_connections{$pods})`, "open"},
				{`sum(coffeebuddy_ledger_connections_in_use{$pods})`, "in use"},
				{`sum(coffeebuddy_ledger_connections_max{$pods})`, "maximum"},
			},
		},
		{
			kind: lines, title: "Events in the outbox", width: 8, unit: units.Short, empty: "no ledger",
			description: "Events that wait to be sent, and those that the sink refused for good, as the pod that looked last saw them. " +
				"[The outbox](${repository}/docs/ledger.md#a-receiver-with-a-transaction)",
			queries: []query{
				{`max(coffeebuddy_ledger_outbox_events{$pods})`, "waiting"},
				{`max(coffeebuddy_ledger_outbox_refused_events{$pods})`, "refused"},
			},
		},
		{
			kind: lines, title: "Age of the oldest event in the outbox", width: 8, unit: units.Seconds, empty: "no ledger",
			description: "More than five minutes, the dashed line, fires CoffeeBuddyOutboxNotDrained. [What to do](${repository}/docs/runbooks/outbox-not-drained.md)",
			queries:     []query{{`max(coffeebuddy_ledger_outbox_age_seconds{$pods})`, "oldest"}},
			limit:       new(300.0),
		},
		{
			kind: bars, title: "New database credentials", width: 8, unit: units.Short, empty: "no ledger",
			description: "How often a pod has replaced its user or password. Dynamic users change at their max TTL; more often means that the database refuses them. " +
				"[Set it up](${repository}/docs/ledger.md#set-it-up)",
			queries: []query{{`sum by (pod) (increase(coffeebuddy_ledger_credential_rotations_total{$pods}[$__interval]))`, "{{pod}}"}},
		},
	}}
}
