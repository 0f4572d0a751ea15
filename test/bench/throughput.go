package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// A throughput is what came of one row.
type throughput struct {
	What        string `json:"what"`
	Who         string `json:"who"`
	PerSecond   spread `json:"per_second"`
	Ratio       spread `json:"ratio"` // to bare, which is measured before and after
	ratios      []float64
	CPU         float64 `json:"cpu_microseconds"`
	Allocations float64 `json:"allocations"` // -1 where nobody counts them
	Bytes       int     `json:"bytes"`       // of the body
	Unanswered  int     `json:"unanswered"`
}

// A measured row gathers its rounds.
type measured struct {
	row
	rates, ratios []float64
	cpu           time.Duration
	counted       count
	alone         alone
}

// throughput asks all rows in turn, in another order each round, and bare before each two and after them. Memory is read before
// and after.
func (b *bench) throughput(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := b.launch(ctx)
	if err != nil {
		return err
	}
	idle := f.resident()
	if err := f.prime(); err != nil {
		return err
	}
	var all []*measured
	for _, r := range f.rows() {
		m := &measured{row: r}
		if err := m.askAlone(b.allocating); err != nil {
			return err
		}
		all = append(all, m)
	}
	bare := all[0]
	all = all[1:]
	for round := range b.throughputRounds {
		progress("throughput: round %d of %d", round+1, b.throughputRounds)
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		before, err := bare.rate(ctx, b.throughputSpan)
		if err != nil {
			return err
		}
		for pair := range (len(all) + 1) / 2 {
			two := all[2*pair : min(2*pair+2, len(all))]
			for _, m := range two {
				if _, err := m.rate(ctx, b.throughputSpan); err != nil {
					return err
				}
			}
			after, err := bare.rate(ctx, b.throughputSpan)
			if err != nil {
				return err
			}
			for _, m := range two {
				m.ratios = append(m.ratios, m.rates[len(m.rates)-1]/max(1, (before+after)/2))
			}
			before = after
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	loaded := f.resident()
	for _, r := range f.rows() { // in their order again
		for _, m := range append(all, bare) {
			if m.row == r {
				b.results.Throughput = append(b.results.Throughput, m.figures())
			}
		}
	}
	return b.remember(f, idle, loaded)
}

// rate is one round of a row.
func (m *measured) rate(ctx context.Context, span time.Duration) (float64, error) {
	if err := m.server.refresh(ctx); err != nil {
		return 0, err
	}
	used := processorTime(m.server.PID())
	c, err := closedLoop(m.server, m.request, m.conns(8), span)
	if err != nil {
		return 0, fmt.Errorf("%s, %s: %w", m.what, m.server.name, err)
	}
	m.cpu += processorTime(m.server.PID()) - used
	m.counted.answered += c.answered
	m.counted.unanswered += c.unanswered
	perSecond := float64(c.answered) / span.Seconds()
	m.rates = append(m.rates, perSecond)
	return perSecond, nil
}

func (m *measured) figures() throughput {
	return throughput{
		What: m.what, Who: m.server.name, PerSecond: spreadOf(m.rates), Ratio: spreadOf(m.ratios), ratios: m.ratios,
		CPU:         float64(m.cpu.Microseconds()) / float64(max(1, m.counted.answered)),
		Allocations: m.alone.allocations, Bytes: m.alone.bytes, Unanswered: m.counted.unanswered,
	}
}

// alone is what is measured of a row on one connection, before the rounds.
type alone struct {
	allocations float64 // of a request; -1 where nobody counts them
	bytes       int     // of an answer's body
}

func (m *measured) askAlone(requests int) (err error) {
	m.alone.allocations = -1
	body, err := askOnce(m.server.address, m.request)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", m.what, m.server.name, err)
	}
	m.alone.bytes = len(body)
	if m.server.mallocs != "" {
		m.alone.allocations, err = m.allocations(requests)
	}
	return err
}

// allocations returns how many heap objects the server allocates for a request, its connection's part included: what it has
// allocated after so many less what it had before, less what it takes to ask for that.
func (m *measured) allocations(count int) (float64, error) {
	c, err := dial(m.server.address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var counts [3]float64
	for i := range counts {
		if i == 2 {
			for range count {
				if _, err := c.ask(m.request); err != nil {
					return 0, err
				}
			}
		}
		if counts[i], err = m.server.allocated(); err != nil {
			return 0, err
		}
	}
	return (counts[2] - counts[1] - (counts[1] - counts[0])) / float64(count), nil
}

// over returns a row's rate over that of another one, round by round.
func (t throughput) over(other throughput) spread {
	quotients := make([]float64, 0, len(t.ratios))
	for i, ratio := range t.ratios {
		if other.ratios[i] > 0 {
			quotients = append(quotients, ratio/other.ratios[i])
		}
	}
	return spreadOf(quotients)
}
