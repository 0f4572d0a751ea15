package board

import "github.com/grafana/grafana-foundation-sdk/go/units"

// ready is what comes first: is the function ready, and if not, why?
func ready() row {
	return row{title: "Ready, and if not, why", panels: []panel{
		{
			kind: number, title: "Pods", width: 4, unit: units.Short, empty: "no pod",
			description: "How many pods there are, and how many say that they are ready. No pod is fine with scale to zero while nobody calls. " +
				"None ready, with pods there, means that callers wait. [What to do](${repository}/docs/operations.md#not-ready-what-to-do)",
			queries: []query{
				{`sum(coffeebuddy_ready{$pods})`, "ready"},
				{`count(coffeebuddy_ready{$pods})`, "pods"},
			},
			states: map[string]result{"0": {"none", red}},
		},
		{
			kind: number, title: "Dependencies", width: 8, unit: units.Short, empty: "no pod",
			description: "Down where any pod says so. Both are required, and shared: one that is down takes every pod out. " +
				"[When everything is down at once](${repository}/docs/operations.md#when-everything-is-down-at-once)",
			queries: []query{{`min by (dependency) (coffeebuddy_dependency_up{$pods})`, "{{dependency}}"}},
			states:  map[string]result{"0": {"down", red}, "1": {"up", green}},
		},
		{
			kind: number, title: "Vault token ends in", width: 4, unit: units.Seconds, empty: "no end known",
			description: "The time left of the token that ends first, as of its last lookup or renewal. A renewable one gets back up at two thirds of its time. " +
				"Empty for a token without an end, and with no pod. [Rotate it](${repository}/docs/operations.md#rotate-the-token)",
			queries: []query{{`min((coffeebuddy_vault_token_expiry_timestamp_seconds{$pods} > 0) - time())`, "left"}},
		},
		{
			kind: number, title: "Answered with 5xx", width: 4, unit: units.PercentUnit, empty: "no traffic",
			description: "The share of callers' requests that were answered with a 5xx; probes and scrapes are left out. " +
				"A 503 tells a broker to come back, and is no loss by itself. [What each answer means](${repository}/docs/events.md)",
			queries: []query{{
				`(sum(rate(coffeebuddy_http_requests_total{$pods, route!~"/health/.*|/metrics", code=~"5.."}[$__rate_interval])) ` +
					`or 0 * sum(rate(coffeebuddy_http_requests_total{$pods, route!~"/health/.*|/metrics"}[$__rate_interval]))) ` +
					`/ (sum(rate(coffeebuddy_http_requests_total{$pods, route!~"/health/.*|/metrics"}[$__rate_interval])) > 0)`, "5xx",
			}},
			limit: new(0.01),
		},
		{
			kind: number, title: "Youngest pod", width: 4, unit: units.Seconds, empty: "no pod",
			description: "How long ago the youngest process started. If it stays small, pods come and go: scale to zero, a roll-out, or restarts. " +
				"Liveness asks nobody, so an outage restarts nothing. [Upgrade and roll back](${repository}/docs/operations.md#upgrade-and-roll-back)",
			queries: []query{{`time() - max(process_start_time_seconds{$pods} and on (job, instance) coffeebuddy_ready{$pods})`, "age"}},
		},
		{
			kind: states, title: "Readiness", width: 12, unit: units.Short, empty: "no pod",
			description: "What each pod answers to its readiness probe. All of them at the same time points to a dependency, one alone to the pod. " +
				"A band that ends is a pod that has gone. [What to do](${repository}/docs/operations.md#not-ready-what-to-do)",
			queries: []query{{`min by (pod) (coffeebuddy_ready{$pods})`, "{{pod}}"}},
			states:  map[string]result{"0": {"not ready", red}, "1": {"ready", green}},
		},
		{
			kind: states, title: "Dependencies", width: 12, unit: units.Short, empty: "no pod",
			description: "What each pod thinks of each dependency. Down in one pod alone means its network or its settings; down in all, the server. " +
				"With a grace a pod may stay ready meanwhile. [When everything is down at once](${repository}/docs/operations.md#when-everything-is-down-at-once)",
			queries: []query{{`min by (pod, dependency) (coffeebuddy_dependency_up{$pods})`, "{{dependency}} {{pod}}"}},
			states:  map[string]result{"0": {"down", red}, "1": {"up", green}},
		},
		{
			kind: states, title: "Why checks fail", width: 12, unit: units.Short, empty: "no check failed",
			description: "The reasons of failed checks, in any pod. Empty is good. A pod that is not ready without a reason here makes no checks: " +
				"it is misconfigured, drains, or waits for a check that hangs. [Each reason](${repository}/docs/operations.md#not-ready-what-to-do)",
			// A row for each reason that there was in the range, and its value at any time of that.
			queries: []query{{
				`(sum by (dependency, reason) (increase(coffeebuddy_dependency_check_failures_total{$pods}[$__rate_interval])) > bool 0) ` +
					`and on (dependency, reason) (sum by (dependency, reason) (increase(coffeebuddy_dependency_check_failures_total{$pods}[$__range] @ end())) > 0)`,
				"{{dependency}} {{reason}}",
			}},
			states: map[string]result{"0": {"–", "transparent"}, "1": {"failing", red}},
		},
		{
			kind: lines, title: "Age of the last check", width: 6, unit: units.Seconds, empty: "no check yet",
			description: "How long ago a dependency was checked, and was last found good, in the pod where that is longest. Good grows in an outage. Checked stays small while anybody " +
				"probes; over 30 s, the dashed line, the verdict is stale: checks hang, or nobody asks. [stale](${repository}/docs/operations.md#not-ready-what-to-do)",
			queries: []query{
				{`max by (dependency) (time() - (coffeebuddy_dependency_last_check_timestamp_seconds{$pods} > 0))`, "{{dependency}} checked"},
				{`max by (dependency) (time() - (coffeebuddy_dependency_last_success_timestamp_seconds{$pods} > 0))`, "{{dependency}} good"},
			},
			limit: new(30.0),
		},
		{
			kind: bars, title: "Changes of readiness", width: 6, unit: units.Short, empty: "no pod",
			description: "How often pods became ready, and ceased to be. One of each is an outage; many are a dependency that flaps, which " +
				"COFFEEBUDDY_READY_GRACE smooths. [The price of that](${repository}/docs/operations.md#when-everything-is-down-at-once)",
			queries: []query{{`sum by (to) (increase(coffeebuddy_readiness_transitions_total{$pods}[$__interval]))`, "{{to}}"}},
		},
		{
			kind: lines, title: "Checks", width: 8, unit: units.OpsPerSecond, empty: "no pod",
			description: "Checks that ended, and those that failed. One of each dependency per second and pod at most, and none when nobody asks. " +
				"None while pods are probed means that they hang. [How readiness works](${repository}/docs/reference.md#readiness)",
			queries: []query{
				{`sum by (dependency) (rate(coffeebuddy_dependency_checks_total{$pods}[$__rate_interval]))`, "{{dependency}}"},
				{`sum by (dependency) (rate(coffeebuddy_dependency_check_failures_total{$pods}[$__rate_interval]))`, "{{dependency}} failed"},
			},
		},
		{
			kind: lines, title: "Duration of checks", width: 8, unit: units.Seconds, empty: "no check yet",
			description: "The 50th and 99th percentile. Near COFFEEBUDDY_CHECK_TIMEOUT (2 s unless it is set) the next word is timeout: " +
				"the server is overloaded, or packets are dropped. [timeout](${repository}/docs/operations.md#not-ready-what-to-do)",
			queries: quantiles("coffeebuddy_dependency_check_duration_seconds", "$pods", "dependency"),
		},
		{
			kind: lines, title: "Vault token's time left", width: 8, unit: units.Seconds, empty: "no end known",
			description: "Teeth are renewals, at two thirds of the time. A line that falls to 0 is a token that nobody renews: the function will say denied. " +
				"[Renewal](${repository}/docs/identity.md)",
			queries: []query{{`min by (pod) ((coffeebuddy_vault_token_expiry_timestamp_seconds{$pods} > 0) - time())`, "{{pod}}"}},
		},
		{
			kind: stacked, title: "Probes", width: 8, unit: units.RequestsPerSecond, empty: "no pod",
			description: "Probes by route and answer. A 503 of /health/ready is what a pod that is not ready has to say. " +
				"Knative asks many times a second until a pod is ready, then kubelet every 10 s. [Readiness](${repository}/docs/reference.md#readiness)",
			queries: []query{{`sum by (route, code) (rate(coffeebuddy_http_requests_total{$pods, route=~"/health/.+"}[$__rate_interval]))`, "{{route}} {{code}}"}},
		},
		{
			kind: lines, title: "Mean duration of probes", width: 8, unit: units.Seconds, empty: "no probe",
			description: "/health/ready waits for a check 60 ms at most, whatever the dependencies do; the dashed line is at the 0.1 s after which Knative gives up. " +
				"[Measured](${repository}/docs/performance.md#latency)",
			queries: []query{{
				`sum by (route) (rate(coffeebuddy_http_request_duration_seconds_sum{$pods, route=~"/health/.+"}[$__rate_interval])) ` +
					`/ (sum by (route) (rate(coffeebuddy_http_request_duration_seconds_count{$pods, route=~"/health/.+"}[$__rate_interval])) > 0)`, "{{route}}",
			}},
			limit: new(0.1),
		},
		{
			kind: lines, title: "Probes too slow for Knative", width: 8, unit: units.PercentUnit, empty: "no probe",
			description: "The share of probes that took over 0.1 s. It should be 0: such a pod is short of CPU, and Knative starts it late or takes it for dead. " +
				"[Sizes](${repository}/docs/operations.md#replicas-nodes-sizes)",
			queries: []query{{
				`1 - sum by (route) (rate(coffeebuddy_http_request_duration_seconds_bucket{$pods, route=~"/health/.+", le="0.1"}[$__rate_interval])) ` +
					`/ (sum by (route) (rate(coffeebuddy_http_request_duration_seconds_count{$pods, route=~"/health/.+"}[$__rate_interval])) > 0)`, "{{route}}",
			}},
			limit: new(0.01),
		},
	}}
}
