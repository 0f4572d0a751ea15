package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// An upstream is what a program asks of Vault and Ory when it is probed at a rate.
type upstream struct {
	Who     string  `json:"who"`
	Rate    int     `json:"rate"`
	Managed float64 `json:"managed"` // probes answered in a second
	Vault   float64 `json:"vault"`   // requests to it in a second
	Ory     float64 `json:"ory"`
	Oldest  float64 `json:"oldest_seconds"` // the oldest verdict that an answer showed; -1 where answers show none
}

// upstream probes the programs at three rates, with a Vault and an Ory that count.
func (b *bench) upstream(ctx context.Context) error {
	programs := []program{b.function(functionName), b.goProgram(healthName, "health"), b.goProgram(periodicName, "health", "PERIODIC=1")}
	if b.python != "" {
		programs = append(programs, b.fastAPI(fastapiName))
	}
	for _, rate := range []int{1, 100, 10_000} {
		for _, p := range programs {
			progress("upstream: %d probes a second, %s", rate, p.name)
			u, err := b.upstreamOf(ctx, p, rate)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			b.results.Upstream = append(b.results.Upstream, u)
		}
	}
	return nil
}

func (b *bench) upstreamOf(ctx context.Context, p program, rate int) (u upstream, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	to, vault, ory, err := played(ctx)
	if err != nil {
		return u, err
	}
	s, err := b.start(ctx, p, to)
	if err != nil {
		return u, err
	}
	defer s.Close()
	s.patience = 100 * time.Millisecond // what counts is what was answered in time
	probe := get("/health/ready", 200)
	if err := s.becomes(ctx, probe); err != nil {
		return u, err
	}
	u = upstream{Who: p.name, Rate: rate, Oldest: -1}
	var watching atomic.Bool
	watching.Store(p.mallocs == "/metrics") // the function, whose answers show when it last checked
	oldest := make(chan result, 1)
	asked := func() [2]int64 { return [2]int64{vault.asked.Load(), ory.asked.Load()} }
	before := asked()
	if watching.Load() && rate > 1 {
		go func() { oldest <- watch(s.address, probe, &watching) }()
	} else {
		oldest <- result{age: -1}
	}
	after := make(chan [2]int64, 1)
	time.AfterFunc(b.upstreamSpan, func() { after <- asked() }) // not when all is answered, which may be later
	drawn := openLoop(s, probe, float64(rate), b.upstreamSpan, 32)
	counted := <-after
	watching.Store(false)
	last := <-oldest
	seconds := b.upstreamSpan.Seconds()
	u.Managed, u.Oldest = float64(drawn.inTime)/seconds, last.age
	u.Vault, u.Ory = float64(counted[0]-before[0])/seconds, float64(counted[1]-before[1])/seconds
	return u, errors.Join(drawn.err(), last.err)
}

// A result is how old the oldest verdict was, in seconds.
type result struct {
	age float64
	err error
}

// watch looks ten times a second at how old the verdict is that a probe is answered with.
func watch(address string, probe request, watching *atomic.Bool) (r result) {
	c, err := dial(address)
	if err != nil {
		return result{err: err}
	}
	defer c.Close()
	for watching.Load() {
		body, err := c.ask(probe)
		if err != nil {
			return result{err: err}
		}
		var answer struct {
			Components map[string]struct {
				CheckedAt time.Time `json:"checked_at"`
			} `json:"components"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return result{err: err}
		}
		for _, component := range answer.Components {
			r.age = max(r.age, time.Since(component.CheckedAt).Seconds())
		}
		pause(100 * time.Millisecond)
	}
	return r
}
