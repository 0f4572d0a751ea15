package main

import (
	"context"
	"fmt"
)

// A growth is how a program's readiness takes more dependencies.
type growth struct {
	Who          string  `json:"who"`
	Dependencies int     `json:"dependencies"`
	PerSecond    spread  `json:"per_second"`
	Ratio        spread  `json:"ratio"` // to the same program with the fewest
	CPU          float64 `json:"cpu_microseconds"`
	Allocations  float64 `json:"allocations"`
	Bytes        int     `json:"bytes"`
}

// growth probes programs of 2 to 32 dependencies that are asked nothing, so that what is measured is the answered probe.
func (b *bench) growth(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	counts := []int{2, 8, 32}
	rows := make([][]*measured, 2)
	for i, each := range []struct{ name, binary string }{{handlerName, "receiver"}, {healthName, "health"}} {
		for _, n := range counts {
			s, err := b.start(ctx, b.goProgram(each.name, each.binary, fmt.Sprintf("DEPENDENCIES=%d", n)), b.healthy)
			if err != nil {
				return err
			}
			if err := s.becomes(ctx, get("/health/ready", 200)); err != nil {
				return err
			}
			m := &measured{row: row{ready, s, get("/health/ready", 200)}}
			if err := m.askAlone(b.allocating); err != nil {
				return err
			}
			rows[i] = append(rows[i], m)
		}
	}
	for range b.growthRounds {
		for _, of := range rows {
			for _, m := range of {
				if _, err := m.rate(ctx, b.growthSpan); err != nil {
					return err
				}
			}
			fewest := of[0].rates[len(of[0].rates)-1]
			for _, m := range of {
				m.ratios = append(m.ratios, m.rates[len(m.rates)-1]/max(1, fewest))
			}
		}
	}
	for _, of := range rows {
		for i, m := range of {
			figures := m.figures()
			b.results.Growth = append(b.results.Growth, growth{
				figures.Who, counts[i], figures.PerSecond, figures.Ratio, figures.CPU, figures.Allocations, figures.Bytes,
			})
		}
	}
	return nil
}
