package main

import "time"

// A plan is how much is measured.
type plan struct {
	throughputRounds int
	throughputSpan   time.Duration // of one row in one round
	latencyRounds    int
	latencySpan      time.Duration
	hungSpan         time.Duration // with a Vault that hangs: above a check's deadline and the TTL together
	starts           int           // of each Go program
	pythonStarts     int
	allocating       int           // requests
	upstreamSpan     time.Duration // at each rate
	growthRounds     int
	growthSpan       time.Duration
	counting         int           // requests under valgrind, and then twice as many
	countPeers       bool          // and not the function alone
	receiveSpan      time.Duration // of each of BenchmarkReceive
	receiveRuns      int
}

// fullPlan is for the documentation: about ten minutes.
func fullPlan() plan {
	return plan{
		throughputRounds: 16, throughputSpan: 200 * time.Millisecond,
		latencyRounds: 4, latencySpan: time.Second, hungSpan: 3500 * time.Millisecond,
		starts: 300, pythonStarts: 20, allocating: 5000,
		upstreamSpan: 9 * time.Second,
		growthRounds: 20, growthSpan: 200 * time.Millisecond,
		counting: 2000, countPeers: true, receiveSpan: 300 * time.Millisecond, receiveRuns: 3,
	}
}

// quickPlan is to see that everything works: about a minute.
func quickPlan() plan {
	return plan{
		throughputRounds: 2, throughputSpan: 100 * time.Millisecond,
		latencyRounds: 1, latencySpan: 300 * time.Millisecond, hungSpan: 3200 * time.Millisecond,
		starts: 10, pythonStarts: 1, allocating: 500,
		upstreamSpan: 2 * time.Second,
		growthRounds: 4, growthSpan: 50 * time.Millisecond,
		counting: 100, receiveSpan: 20 * time.Millisecond, receiveRuns: 1,
	}
}
