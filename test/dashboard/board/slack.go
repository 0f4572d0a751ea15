package board

import "github.com/grafana/grafana-foundation-sdk/go/units"

// slack is what Slack asks; without COFFEEBUDDY_SLACK_SECRET all of it stays at 0.
func slack() row {
	return row{title: "Slack", panels: []panel{
		{
			kind: stacked, title: "Slack requests by outcome", width: 8, unit: units.RequestsPerSecond, empty: "no pod",
			description: "`unsigned` is somebody who is not Slack, or a secret that was rotated on one side alone. `unavailable` is Vault that did not give the secret, " +
				"too much at a time, or a receiver that failed. [What is refused](${repository}/docs/slack.md#what-is-refused)",
			queries: []query{{`sum by (outcome) (rate(coffeebuddy_slack_requests_total{$pods}[$__rate_interval]))`, "{{outcome}}"}},
		},
		{
			kind: lines, title: "Acknowledged before they were done", width: 8, unit: units.RequestsPerSecond, empty: "no pod",
			description: "Requests that were answered in time for a receiver that went on, by kind. Users see the reply later. Many of them mean that a receiver is too slow for Slack. " +
				"[What Slack is told](${repository}/docs/slack.md#what-slack-is-told)",
			queries: []query{{`sum by (kind) (rate(coffeebuddy_slack_requests_total{$pods, outcome="acknowledged_for"}[$__rate_interval]))`, "{{kind}}"}},
		},
		{
			kind: lines, title: "Duration of Slack requests", width: 8, unit: units.Seconds, empty: "no Slack",
			description: "The 50th and 99th percentile by route. Slack shows its user an error after 3 s, the dashed line; COFFEEBUDDY_SLACK_ACK_AFTER (1.8 s) keeps away from it. Percentiles are read between buckets: 1.8 s may show as 2.5. " +
				"[What Slack is told](${repository}/docs/slack.md#what-slack-is-told)",
			queries: quantiles("coffeebuddy_http_request_duration_seconds", `$pods, route=~"/slack/.+"`, "route"),
			limit:   new(3.0),
		},
	}}
}
