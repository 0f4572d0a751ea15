package ledger

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The outcomes of claims, and of settling them.
type outcome int

const (
	claimed outcome = iota
	running
	answeredBefore
	mismatch
	lost
	failed
)

func outcomes() []string {
	return []string{"claimed", "running", "answered", "mismatch", "lost", "failed"}
}

// An operation is what the ledger does in one round trip, but for commit, which takes two.
type operation int

const (
	operationClaim operation = iota
	operationRenew
	operationSettle
	operationCommit
	operationSweep
	operationCheck
)

func operations() []string {
	return []string{"claim", "renew", "settle", "commit", "sweep", "check"}
}

// metrics are what is counted. The gauges are read from the ledger.
type metrics struct {
	claims    []prometheus.Counter
	durations []prometheus.Observer
	rotations atomic.Int64

	claimVector    *prometheus.CounterVec
	durationVector *prometheus.HistogramVec
	gauges         []prometheus.Collector
}

func newMetrics(l *Ledger) *metrics {
	m := &metrics{
		claimVector: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffeebuddy_ledger_claims_total",
			Help: "Claims by outcome: claimed, running elsewhere, answered before, mismatch of data, lost to another owner, failed to ask or to settle.",
		}, []string{"outcome"}),
		durationVector: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "coffeebuddy_ledger_duration_seconds",
			Help:    "Duration of the ledger's operations on the database.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 2.5},
		}, []string{"operation"}),
	}
	for _, name := range outcomes() {
		m.claims = append(m.claims, m.claimVector.WithLabelValues(name))
	}
	for _, name := range operations() {
		m.durations = append(m.durations, m.durationVector.WithLabelValues(name))
	}
	gauge := func(name, help string, value func() float64) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("coffeebuddy_ledger_connections", "Open connections to the database.", func() float64 { return float64(l.connections().open) })
	gauge("coffeebuddy_ledger_connections_in_use", "Connections to the database that run a statement or hold a transaction.",
		func() float64 { return float64(l.connections().inUse) })
	gauge("coffeebuddy_ledger_connections_max", "Connections to the database that this pod opens at most.",
		func() float64 { return float64(l.config.Connections) })
	gauge("coffeebuddy_ledger_outbox_events", "Events that wait to be sent, of all pods, as this one last saw it; at most 10000.",
		func() float64 { return float64(l.outboxState().length) })
	gauge("coffeebuddy_ledger_outbox_refused_events", "Events that the sink refused for good, of all pods, as this one last saw it; at most 10000.",
		func() float64 { return float64(l.outboxState().refused) })
	gauge("coffeebuddy_ledger_outbox_age_seconds", "Age of the oldest event that waits to be sent, 0 for none.", func() float64 {
		if oldest := l.outboxState().oldest; !oldest.IsZero() {
			return time.Since(oldest).Seconds()
		}
		return 0
	})
	m.gauges = append(m.gauges, prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "coffeebuddy_ledger_credential_rotations_total",
		Help: "How often the pool was replaced by one with other credentials.",
	}, func() float64 { return float64(m.rotations.Load()) }))
	return m
}

func (m *metrics) count(o outcome) { m.claims[o].Inc() }

func (m *metrics) observe(o operation, began time.Time) {
	m.durations[o].Observe(time.Since(began).Seconds())
}

// Describe implements prometheus.Collector.
func (l *Ledger) Describe(to chan<- *prometheus.Desc) {
	l.metrics.claimVector.Describe(to)
	l.metrics.durationVector.Describe(to)
	for _, g := range l.metrics.gauges {
		g.Describe(to)
	}
}

// Collect implements prometheus.Collector. It asks nothing of the database.
func (l *Ledger) Collect(to chan<- prometheus.Metric) {
	l.metrics.claimVector.Collect(to)
	l.metrics.durationVector.Collect(to)
	for _, g := range l.metrics.gauges {
		g.Collect(to)
	}
}

type connections struct{ open, inUse int }

// connections returns what the pool has. It does not wait for one that is being opened.
func (l *Ledger) connections() connections {
	p := l.shown.Load()
	if p == nil {
		return connections{}
	}
	stats := p.db.Stats()
	return connections{stats.OpenConnections, stats.InUse}
}

type outboxState struct {
	length, refused int
	oldest          time.Time
}

func (l *Ledger) outboxState() outboxState {
	o := &l.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	return outboxState{o.length, o.refused, o.oldest}
}
