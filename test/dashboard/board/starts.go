package board

import "github.com/grafana/grafana-foundation-sdk/go/units"

// starts are the beginnings and the ends of pods, and what runs in them.
func starts() row {
	return row{title: "Start and stop", panels: []panel{
		{
			kind: lines, title: "Cold start", width: 6, unit: units.Seconds, empty: "no pod",
			description: "From the start of the process until it listened, was ready, and had answered its first event, in the slowest pod there is. " +
				"Ready waits for Vault and Ory, the first event for somebody who sends one. [Measured](${repository}/docs/performance.md#on-knative)",
			queries: []query{{`max by (until) (coffeebuddy_start_seconds{$pods, until=~"listening|ready"} > 0)`, "{{until}}"}},
		},
		{
			kind: bars, title: "Restarts, panics, work cut off", width: 6, unit: units.Short, empty: "no pod",
			description: "All three should stay at 0: processes that started again in the same pod, panics that were recovered from, tasks that a shutdown cut off. " +
				"What is cut off at the very end no scrape sees any more: the log names it, and the exit code is 1. [Work after the response](${repository}/docs/events.md#work-after-the-response)",
			queries: []query{
				{`sum(changes(process_start_time_seconds{$pods}[$__interval]) and on (job, instance) coffeebuddy_ready{$pods})`, "restarts"},
				{`sum(increase(coffeebuddy_http_panics_total{$pods}[$__interval]))`, "panics"},
				{`sum(increase(coffeebuddy_background_tasks_total{$pods, outcome="cut_off"}[$__interval]))`, "tasks cut off"},
			},
		},
		{
			kind: labelling, title: "What runs", width: 12, unit: units.Short, empty: "no pod",
			description: "The build in each pod. Several versions for long are a roll-out that does not end; `+dirty` says that something was not committed. " +
				"[Upgrade and roll back](${repository}/docs/operations.md#upgrade-and-roll-back)",
			queries: []query{{`max by (pod, version, commit, goversion) (coffeebuddy_build_info{$pods})`, ""}},
		},
	}}
}
