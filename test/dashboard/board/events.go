package board

import "github.com/grafana/grafana-foundation-sdk/go/units"

// events are those of POST / and of Slack.
func events() row {
	return row{title: "Events", panels: []panel{
		{
			kind: stacked, title: "Events by outcome", width: 12, unit: units.EventsPerSecond, empty: "no pod",
			description: "What became of events. `failed` is an error or a panic of a receiver, `timeout` one that did not end in time or a body that did not come, " +
				"`overloaded` one event more than COFFEEBUDDY_EVENTS_IN_FLIGHT. [Each answer](${repository}/docs/events.md#what-a-receiver-returns-and-what-a-broker-does)",
			queries: []query{{`sum by (outcome) (rate(coffeebuddy_events_total{$pods}[$__rate_interval]))`, "{{outcome}}"}},
		},
		{
			kind: lines, title: "Sent again, dropped, deduplicated", width: 12, unit: units.EventsPerSecond, empty: "no pod",
			description: "What a broker does with events: send them again, or put them into the dead-letter sink at once; and those that came twice. " +
				"Sent again for long means that a receiver does not recover, and that the broker's retries run out. [Duplicates](${repository}/docs/events.md#duplicates)",
			queries: []query{
				{`sum(rate(coffeebuddy_events_total{$pods, outcome=~"failed|retry|timeout|overloaded"}[$__rate_interval]))`, "sent again"},
				{`sum(rate(coffeebuddy_events_total{$pods, outcome=~"malformed|unknown_type|rejected|mismatch"}[$__rate_interval]))`, "to the dead letters"},
				{`sum(rate(coffeebuddy_events_total{$pods, outcome="unauthorized"}[$__rate_interval]))`, "unauthorized"},
				{`sum(rate(coffeebuddy_events_total{$pods, outcome="duplicate"}[$__rate_interval]))`, "deduplicated"},
			},
		},
		{
			kind: lines, title: "Duration of events", width: 8, unit: units.Seconds, empty: "no events",
			description: "The 50th and 99th percentile of POST /. COFFEEBUDDY_EVENT_TIMEOUT, 10 s unless it is set, ends what takes longer. " +
				"[What a receiver returns](${repository}/docs/events.md#what-a-receiver-returns-and-what-a-broker-does)",
			queries: quantiles("coffeebuddy_http_request_duration_seconds", `$pods, method="POST", route="/"`, ""),
		},
		{
			kind: lines, title: "Events in flight", width: 8, unit: units.Short, empty: "no pod",
			description: "Events and Slack requests that hold a slot, by pod. At 32, the dashed line, or COFFEEBUDDY_EVENTS_IN_FLIGHT, further events get 503 with Retry-After. " +
				"Some that never go are receivers that outlive their deadline. [Sizes](${repository}/docs/operations.md#replicas-nodes-sizes)",
			queries: []query{{`sum by (pod) (coffeebuddy_events_in_flight{$pods})`, "{{pod}}"}},
			limit:   new(32.0),
		},
		{
			kind: stacked, title: "Work after the answer", width: 8, unit: units.OpsPerSecond, empty: "no pod",
			description: "Tasks that went on after their event was answered, by how they ended. Nobody sends a failed one again: its name is in the log. " +
				"[Work after the response](${repository}/docs/events.md#work-after-the-response)",
			queries: []query{{`sum by (outcome) (rate(coffeebuddy_background_tasks_total{$pods}[$__rate_interval]))`, "{{outcome}}"}},
		},
		{
			kind: stacked, title: "Events sent to the sink", width: 8, unit: units.EventsPerSecond, empty: "no sink",
			description: "By outcome: `failed` was not accepted in time, `refused` never will be. Neither is acknowledged to whoever it was sent for. " +
				"[Sending events](${repository}/docs/events.md#sending-events)",
			queries: []query{{`sum by (outcome) (rate(coffeebuddy_sink_events_total{$pods}[$__rate_interval]))`, "{{outcome}}"}},
		},
		{
			kind: lines, title: "Duration of sending", width: 8, unit: units.Seconds, empty: "no sink",
			description: "The 50th and 99th percentile until the sink accepted an event or it was given up, retries included. " +
				"[Sending events](${repository}/docs/events.md#sending-events)",
			queries: quantiles("coffeebuddy_sink_duration_seconds", `$pods`, ""),
		},
		{
			kind: lines, title: "Being sent to the sink", width: 8, unit: units.Short, empty: "no sink",
			description: "Events, by pod. At 64, the dashed line, further ones wait for a slot. A sink that is slow or down shows here first. " +
				"[Sending events](${repository}/docs/events.md#sending-events)",
			queries: []query{{`sum by (pod) (coffeebuddy_sink_events_in_flight{$pods})`, "{{pod}}"}},
			limit:   new(64.0),
		},
	}}
}
