package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A latency is what came of one row at one rate.
type latency struct {
	What       string  `json:"what"`
	Who        string  `json:"who"`
	Rate       int     `json:"rate"` // requests due in a second
	Requests   int     `json:"requests"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
	P99Low     float64 `json:"p99_low_ms"` // the lowest of a round, and the highest
	P99High    float64 `json:"p99_high_ms"`
	Unanswered int     `json:"unanswered"`
}

// The rates in a second: one that every program can serve, and one that those in Go can.
const (
	slowRate = 100
	fastRate = 2000
)

// A pacedRow is a row at a rate.
type pacedRow struct {
	row
	rate   int
	span   time.Duration
	most   int // connections
	rounds []sample
}

// latency asks all rows in turn, each round in another order, each at a fixed rate.
func (b *bench) latency(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := b.launch(ctx)
	if err != nil {
		return err
	}
	if err := f.prime(); err != nil {
		return err
	}
	all, err := b.pacedRows(ctx, f)
	if err != nil {
		return err
	}
	order := make([]*pacedRow, len(all))
	copy(order, all)
	for round := range b.latencyRounds {
		progress("latency: round %d of %d", round+1, b.latencyRounds)
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, p := range order {
			if err := p.server.refresh(ctx); err != nil {
				return err
			}
			s := openLoop(p.server, p.request, float64(p.rate), p.span, p.conns(p.most))
			if err := s.err(); err != nil {
				return fmt.Errorf("%s, %s: %w", p.what, p.server.name, err)
			}
			p.rounds = append(p.rounds, s)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	if b.results.Dropped, err = dropped(f.stopped); err != nil {
		return err
	}
	for _, p := range all {
		b.results.Latency = append(b.results.Latency, p.figures())
	}
	return nil
}

// pacedRows are the rows of the fleet at their rates, and readiness when Vault fails.
func (b *bench) pacedRows(ctx context.Context, f *fleet) ([]*pacedRow, error) {
	const few, many = 32, 256 // connections
	var all []*pacedRow
	for _, r := range f.rows() {
		switch {
		case r.what == structEvent, r.what == structEcho, r.server == f.timeouts, r.server == f.headers, r.server == f.quiet:
			continue // the throughput says it
		}
		all = append(all, &pacedRow{row: r, rate: slowRate, span: b.latencySpan, most: few})
		if r.server != f.fastapi && r.server != f.fastapiPlayed && r.what != metrics {
			all = append(all, &pacedRow{row: r, rate: fastRate, span: b.latencySpan, most: few})
		}
	}
	full, err := b.fullPipe()
	if err != nil {
		return nil, err
	}
	p := b.function(stoppedName)
	p.log = full
	if f.stopped, err = b.start(ctx, p, b.healthy); err != nil {
		return nil, err
	}
	echo := event("binary", "boson.fn", 200)
	if _, err := closedLoop(f.stopped, echo, 8, time.Second); err != nil { // so that the buffer is full, too
		return nil, err
	}
	all = append(all, &pacedRow{row: row{binaryEcho, f.stopped, echo}, rate: fastRate, span: b.latencySpan, most: few})
	hangs, err := hung(ctx)
	if err != nil {
		return nil, err
	}
	closed, err := dead(ctx)
	if err != nil {
		return nil, err
	}
	for _, failing := range []struct {
		what, vault string
		status      int
		span        time.Duration
	}{
		{readyHung, hangs, 503, b.hungSpan},
		{readyDead, closed, 503, b.latencySpan},
	} {
		to := b.healthy
		to.vault = failing.vault
		programs := []program{b.function(functionName), b.goProgram(healthName, "health"), b.goProgram(periodicName, "health", "PERIODIC=1")}
		if b.python != "" {
			programs = append(programs, b.fastAPI(fastapiName))
		}
		for _, p := range programs {
			s, err := b.start(ctx, p, to)
			if err != nil {
				return nil, err
			}
			r := row{failing.what, s, get("/health/ready", failing.status)}
			all = append(all, &pacedRow{row: r, rate: slowRate, span: failing.span, most: many})
		}
	}
	return all, nil
}

func (p *pacedRow) figures() latency {
	var all sample
	var p99 []float64
	for _, s := range p.rounds {
		all.add(s)
		p99 = append(p99, milliseconds(quantile(s.latencies, 0.99)))
	}
	all.sort()
	l := latency{
		What: p.what, Who: p.server.name, Rate: p.rate, Requests: len(all.latencies), Unanswered: all.unanswered,
		P50: milliseconds(quantile(all.latencies, 0.5)), P99: milliseconds(quantile(all.latencies, 0.99)), Max: milliseconds(quantile(all.latencies, 1)),
		P99Low: p99[0], P99High: p99[0],
	}
	for _, v := range p99 {
		l.P99Low, l.P99High = min(l.P99Low, v), max(l.P99High, v)
	}
	return l
}
