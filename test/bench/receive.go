package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// A receive is one event that is received without a network: BenchmarkReceive of test/conformance.
type receive struct {
	What        string  `json:"what"` // "binary" or "structured"
	Who         string  `json:"who"`
	CPU         float64 `json:"cpu_nanoseconds"` // the least of the runs
	Allocations float64 `json:"allocations"`
}

var benchmarked = regexp.MustCompile(`(?m)^BenchmarkReceive/(\w+)/(\w+)-\d+\s.*?([0-9.]+) cpu-ns/op.*?([0-9]+) allocs/op`)

// withoutNetwork runs BenchmarkReceive.
func (b *bench) withoutNetwork(ctx context.Context) error {
	command := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkReceive$", "-benchtime", b.receiveSpan.String(),
		"-count", strconv.Itoa(b.receiveRuns), ".")
	command.Dir = filepath.Join(b.root, "test", "conformance")
	out, err := command.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	b.results.Receive, err = parseReceive(out)
	return err
}

func parseReceive(output []byte) (all []receive, err error) {
	at := make(map[string]int)
	for _, found := range benchmarked.FindAllSubmatch(output, -1) {
		r := receive{What: string(found[1]), Who: string(found[2])}
		if r.CPU, err = strconv.ParseFloat(string(found[3]), 64); err != nil {
			return nil, err
		}
		if r.Allocations, err = strconv.ParseFloat(string(found[4]), 64); err != nil {
			return nil, err
		}
		i, there := at[r.What+r.Who]
		if !there {
			at[r.What+r.Who] = len(all)
			all = append(all, r)
			continue
		}
		all[i].CPU = min(all[i].CPU, r.CPU)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no figures in: %.300s", output)
	}
	return all, nil
}

// received returns a row of BenchmarkReceive.
func (r *results) received(what, who string) (receive, bool) {
	for _, row := range r.Receive {
		if row.What == what && row.Who == who {
			return row, true
		}
	}
	return receive{}, false
}
