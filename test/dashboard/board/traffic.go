package board

import "github.com/grafana/grafana-foundation-sdk/go/units"

// traffic is what callers ask for and get; probes and scrapes are not theirs.
func traffic() row {
	return row{title: "Traffic", panels: []panel{
		{
			kind: stacked, title: "Requests", width: 12, unit: units.RequestsPerSecond, empty: "no traffic",
			description: "Callers' requests by route; probes and scrapes are left out. `unmatched` is any path or method that is no route: a scanner, or a wrong URL. " +
				"In an outage it falls to nothing, since Knative holds the requests. [Routes](${repository}/docs/reference.md#routes)",
			queries: []query{{`sum by (route) (rate(coffeebuddy_http_requests_total{$pods, route!~"/health/.*|/metrics"}[$__rate_interval]))`, "{{route}}"}},
		},
		{
			kind: stacked, title: "Errors", width: 12, unit: units.RequestsPerSecond, empty: "no errors",
			description: "Answers of 400 and above, by route. 4xx is the sender's to mend, 500 a receiver that failed, 503 asks to come back. " +
				"[What each answer means](${repository}/docs/events.md#what-a-receiver-returns-and-what-a-broker-does)",
			queries: []query{{`sum by (route, code) (rate(coffeebuddy_http_requests_total{$pods, route!~"/health/.*|/metrics", code=~"[45].."}[$__rate_interval]))`, "{{route}} {{code}}"}},
		},
		{
			kind: lines, title: "Duration of requests", width: 12, unit: units.Seconds, empty: "no traffic",
			description: "The 50th and 99th percentile by route. A receiver that waits for something shows here first. " +
				"[How long it takes](${repository}/docs/performance.md#on-knative)",
			queries: quantiles("coffeebuddy_http_request_duration_seconds", `$pods, route!~"/health/.*|/metrics"`, "route"),
		},
		{
			kind: lines, title: "Requests in flight", width: 12, unit: units.Short, empty: "no pod",
			description: "Requests that are being answered, by pod; the scrape that asks is one. Knative adds pods at 14 at a time. " +
				"One pod far above the others waits for something that they do not. [Sizes](${repository}/docs/operations.md#replicas-nodes-sizes)",
			queries: []query{{`sum by (pod) (coffeebuddy_http_requests_in_flight{$pods})`, "{{pod}}"}},
		},
		{
			kind: lines, title: "Connections", width: 12, unit: units.Short, empty: "no pod",
			description: "Open connections, by pod. At COFFEEBUDDY_CONNECTIONS, 4,096 unless it is set, the longest silent or idle one is closed for a new one. " +
				"[Settings](${repository}/docs/reference.md#settings)",
			queries: []query{{`sum by (pod) (coffeebuddy_connections{$pods})`, "{{pod}}"}},
		},
		{
			kind: bars, title: "Connections closed for others, log lines dropped", width: 12, unit: units.Short, empty: "no pod",
			description: "Both should stay at 0: more connections than the function keeps, and more log lines than standard output takes. " +
				"[Metrics](${repository}/docs/reference.md#metrics)",
			queries: []query{
				{`sum(increase(coffeebuddy_connections_shed_total{$pods}[$__interval]))`, "connections closed"},
				{`sum(increase(coffeebuddy_log_lines_dropped_total{$pods}[$__interval]))`, "log lines dropped"},
			},
		},
	}}
}
