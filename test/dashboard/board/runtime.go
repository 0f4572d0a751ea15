package board

import "github.com/grafana/grafana-foundation-sdk/go/units"

// ours keeps to the function's own processes: every Go program has metrics of the same names.
const ours = ` and on (job, instance) coffeebuddy_ready{$pods}`

// runtime is what the processes use.
func runtime() row {
	return row{title: "Go runtime", panels: []panel{
		{
			kind: lines, title: "CPU", width: 8, unit: units.Short, empty: "no pod",
			description: "Processors in use, by pod. There is no limit set, as it would slow down the start. Busy with few requests means a loop, or a garbage collector " +
				"that is short of memory. [Sizes](${repository}/docs/operations.md#replicas-nodes-sizes)",
			queries: []query{{`sum by (pod) (rate(process_cpu_seconds_total{$pods}[$__rate_interval])` + ours + `)`, "{{pod}}"}},
		},
		{
			kind: lines, title: "Memory", width: 8, unit: units.BytesIEC, empty: "no pod",
			description: "Resident memory by pod, the heap of the largest, and GOMEMLIMIT, from which on the collector works harder. " +
				"Near the limit with few events in flight is a leak. [Sizes](${repository}/docs/operations.md#replicas-nodes-sizes)",
			queries: []query{
				{`sum by (pod) (process_resident_memory_bytes{$pods}` + ours + `)`, "{{pod}}"},
				{`max(go_memory_classes_heap_objects_bytes{$pods}` + ours + `)`, "largest heap"},
				// Without a limit it is 2^63-1, which would flatten all other lines.
				{`min((go_gc_gomemlimit_bytes{$pods} < 2^60)` + ours + `)`, "GOMEMLIMIT"},
			},
		},
		{
			kind: lines, title: "Goroutines", width: 8, unit: units.Short, empty: "no pod",
			description: "By pod. They follow the requests in flight; a line that climbs and never comes back is a leak. [In the handler](${repository}/docs/performance.md#in-the-handler)",
			queries:     []query{{`sum by (pod) (go_goroutines{$pods}` + ours + `)`, "{{pod}}"}},
		},
		{
			kind: lines, title: "Garbage collections", width: 8, unit: units.OpsPerSecond, empty: "no pod",
			description: "By pod. Many a second, with the heap at GOMEMLIMIT, mean too little memory. [Sizes](${repository}/docs/operations.md#replicas-nodes-sizes)",
			queries:     []query{{`sum by (pod) (rate(go_gc_duration_seconds_count{$pods}[$__rate_interval])` + ours + `)`, "{{pod}}"}},
		},
		{
			kind: lines, title: "Longest pause of the collector", width: 8, unit: units.Seconds, empty: "no pod",
			description: "The longest pause of late, by pod. Above some milliseconds the pod is short of CPU, and probes suffer. [Measured](${repository}/docs/performance.md#latency)",
			queries:     []query{{`max by (pod) (go_gc_duration_seconds{$pods, quantile=~"1|1.0"}` + ours + `)`, "{{pod}}"}},
		},
		{
			kind: lines, title: "Open files", width: 8, unit: units.Short, empty: "no pod",
			description: "Connections and files, by pod. A line that climbs and never comes back is connections that nobody closes. [Measured](${repository}/docs/performance.md#chaos)",
			queries:     []query{{`sum by (pod) (process_open_fds{$pods}` + ours + `)`, "{{pod}}"}},
		},
	}}
}
