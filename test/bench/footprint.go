package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"coffeebuddy/test/devstack"
)

// A footprint is how large a program is.
type footprint struct {
	Who    string  `json:"who"`
	Binary int     `json:"binary_bytes"`
	Layer  int     `json:"layer_bytes"`
	Idle   float64 `json:"idle_mib"`
	Loaded float64 `json:"loaded_mib"`
}

// size measures binaries and layers.
func (b *bench) size(context.Context) error {
	for _, each := range []struct{ name, binary string }{
		{bareName, "bare"}, {functionName, "function"}, {healthName, "health"}, {sdkName, "sdk"}, {funcgoName, "funcgo"}, {promhttpName, "promhttp"},
	} {
		binary, layer, err := sizes(b.binaries[each.binary])
		if err != nil {
			return err
		}
		b.results.Footprint = append(b.results.Footprint, footprint{Who: each.name, Binary: binary, Layer: layer})
	}
	if b.python != "" {
		b.results.Footprint = append(b.results.Footprint, footprint{Who: fastapiName})
	}
	return nil
}

// resident returns the servers' memory in MiB, by name.
func (f *fleet) resident() map[string]float64 {
	memory := make(map[string]float64)
	for _, s := range []*server{f.bare, f.function, f.health, f.sdk, f.funcgo, f.promhttp, f.fastapi} {
		if s != nil {
			memory[s.name] = resident(s.PID())
		}
	}
	return memory
}

// remember adds memory to the footprints, and compares what the function and promhttp show.
func (b *bench) remember(f *fleet, idle, loaded map[string]float64) error {
	for i, of := range b.results.Footprint {
		b.results.Footprint[i].Idle, b.results.Footprint[i].Loaded = idle[of.Who], loaded[of.Who]
	}
	function, err := askOnce(f.function.address, get("/metrics", 200))
	if err != nil {
		return err
	}
	alone, err := askOnce(f.promhttp.address, get("/metrics", 200))
	if err != nil {
		return err
	}
	b.results.Series = [2]int{series(function), series(alone)}
	return nil
}

// series counts the lines of an exposition that are no comments.
func series(exposition []byte) (n int) {
	for line := range bytes.Lines(exposition) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && bytes.Contains(line, []byte(" ")) {
			n++
		}
	}
	return n
}

// A start is how long a program takes from exec to its first 200.
type start struct {
	Who    string  `json:"who"`
	Starts int     `json:"starts"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// coldStart starts each program again and again, in turn. No dependency is asked.
func (b *bench) coldStart(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	to, _, _, err := played(ctx)
	if err != nil {
		return err
	}
	programs := []program{
		b.goProgram(bareName, "bare"), b.function(functionName), b.goProgram(healthName, "health"),
		b.goProgram(sdkName, "sdk"), b.goProgram(funcgoName, "funcgo"), b.goProgram(promhttpName, "promhttp"),
	}
	if b.python != "" {
		programs = append(programs, b.fastAPI(fastapiName))
	}
	took := make([][]time.Duration, len(programs))
	for round := range b.starts {
		for i, p := range programs {
			if p.family && round >= b.pythonStarts {
				continue
			}
			d, err := b.startOnce(ctx, p, to)
			if err != nil {
				return err
			}
			took[i] = append(took[i], d)
		}
	}
	for i, p := range programs {
		s := sample{latencies: took[i]}
		s.sort()
		b.results.Starts = append(b.results.Starts, start{
			Who: p.name, Starts: len(took[i]),
			P50: milliseconds(quantile(s.latencies, 0.5)), P99: milliseconds(quantile(s.latencies, 0.99)), Max: milliseconds(quantile(s.latencies, 1)),
		})
	}
	return nil
}

// startOnce starts a program, asks until it answers, and ends it.
func (b *bench) startOnce(ctx context.Context, p program, to platform) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	command, address, err := b.command(ctx, p, to)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	child, err := devstack.StartProcess(ctx, command)
	if err != nil {
		return 0, err
	}
	defer child.Kill()
	for time.Since(began) < 30*time.Second && ctx.Err() == nil {
		if _, err = askOnce(address, get(p.live, 200)); err == nil {
			return time.Since(began), nil
		}
		pause(50 * time.Microsecond) // a busy loop would take a processor from what is measured
	}
	return 0, fmt.Errorf("%s does not answer: %w", p.name, errors.Join(err, ctx.Err()))
}
