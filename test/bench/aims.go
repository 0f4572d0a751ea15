package main

import "fmt"

// An aim is what a figure should be.
type aim struct {
	what, measured, wanted string
	reached                bool
}

// aims are those whose figures were measured.
func (r *results) aims() (all []aim) {
	atLeast := func(what string, ratio, wanted float64) {
		all = append(all, aim{what, figure(ratio), "at least " + figure(wanted), ratio >= wanted})
	}
	atMost := func(what string, value, wanted float64, unit string) {
		all = append(all, aim{what, figure(value) + unit, "at most " + figure(wanted) + unit, value <= wanted})
	}
	for _, of := range []struct {
		what, who string
		cpu       float64 // of the SDK's
		thousand  float64 // instructions
	}{
		{binaryEvent, handlerName, 0.85, 75},
		{structEvent, handlerName, 0.85, 75},
		{binaryEcho, functionName, 0.95, 125},
		{structEcho, functionName, 0.95, 125},
	} {
		ours, ok := r.row(of.what, of.who)
		if sdk, there := r.row(of.what, sdkName); ok && there && sdk.CPU > 0 {
			atMost(of.what+": processor time over the CloudEvents SDK's", ours.CPU/sdk.CPU, of.cpu, "")
		}
		if n := r.instructionsOf(of.what, of.who); n > 0 {
			atMost("… instructions", n/1e3, of.thousand, " k")
		}
	}
	for _, mode := range []string{"binary", "structured"} {
		ours, ok := r.received(mode, "handler")
		sdk, there := r.received(mode, "SDK_receiver")
		if !ok || !there {
			continue
		}
		atMost("a "+mode+" event without a network: time over the SDK's", ours.CPU/sdk.CPU, 0.6, "")
		atMost("… allocations", ours.Allocations, 14, "")
	}
	if f, ok := r.row(live, functionName); ok {
		atLeast("live, ratio to bare net/http", f.Ratio.Median, 0.92)
	}
	if f, ok := r.row(ready, functionName); ok {
		atLeast("ready, ratio to bare net/http", f.Ratio.Median, 0.90)
	}
	if f, ok := r.row(metrics, functionName); ok {
		if alone, ok := r.row(metrics, promhttpName); ok {
			atLeast("metrics, ratio to promhttp alone", f.over(alone).Median, 1)
		}
	}
	if few, many, ok := r.grown(); ok {
		atMost("processor time of a probe, 32 dependencies over 2", many.CPU/few.CPU, 1.1, "")
	}
	if n := r.instructionsOf(starting, functionName); n > 0 {
		atMost("exec to the first 200, instructions", n/1e6, 7.5, " M")
	}
	for _, f := range r.Footprint {
		if f.Who != functionName {
			continue
		}
		if f.Idle > 0 {
			atMost("resident memory, idle", f.Idle, 14, " MiB")
			atMost("… after the throughput run", f.Loaded, 30, " MiB")
		}
		atMost("stripped binary", float64(f.Binary)/1e6, 16, " MB")
	}
	if read, stopped, ok := r.stoppedLog(); ok {
		atMost("nobody reads the log: p99 of an event, beside the slowest round with a reader", stopped.P99, read.P99High, " ms")
	}
	return all
}

func (r *results) aimsTable() string {
	t := newTable("", "measured", "aim", "")
	for _, a := range r.aims() {
		reached := "reached"
		if !a.reached {
			reached = "**not reached**"
		}
		t.row(a.what, a.measured, a.wanted, reached)
	}
	return t.String()
}

// stoppedLog returns an event's latency with a log that is read, and with one that is not, at the same rate.
func (r *results) stoppedLog() (read, stopped latency, ok bool) {
	there := 0
	for _, l := range r.Latency {
		switch {
		case l.What == binaryEcho && l.Rate == fastRate && l.Who == functionName:
			read = l
			there++
		case l.What == binaryEcho && l.Who == stoppedName:
			stopped = l
			there++
		}
	}
	return read, stopped, there == 2
}

// row returns a row of the throughput.
func (r *results) row(what, who string) (throughput, bool) {
	for _, row := range r.Throughput {
		if row.What == what && row.Who == who {
			return row, true
		}
	}
	return throughput{}, false
}

// grown returns the handler's readiness with the fewest and the most dependencies.
func (r *results) grown() (few, many growth, ok bool) {
	for _, g := range r.Growth {
		if g.Who != handlerName {
			continue
		}
		if !ok {
			few = g
		}
		many, ok = g, true
	}
	return few, many, ok
}

// broken returns what cannot be, however busy the machine is: something is broken then, in the function or here. What was not
// measured is, too, where everything was to be.
func (r *results) broken(everything bool) error {
	var all problems
	for _, t := range r.Throughput {
		all.unless(t.PerSecond.Median > 0 || t.Who != functionName, "%s: nothing was answered", t.What)
		all.unless(t.Unanswered == 0 || t.Who == sdkName || t.Who == funcgoName, "%s, %s: %d requests were not answered", t.What, t.Who, t.Unanswered)
	}
	if r.Series[0] != 0 {
		more := r.Series[0] - r.Series[1] // an answer with another status is a line more
		all.unless(-5 < more && more < 5, "the function's metrics have %d lines, promhttp's alone %d", r.Series[0], r.Series[1])
	}
	stalls := 0.0 // in milliseconds, of a server that has nothing to wait for: the machine's
	for _, l := range r.Latency {
		if l.Who == bareName {
			stalls = max(stalls, l.Max)
		}
	}
	for _, l := range r.Latency {
		if l.Who != functionName && l.Who != stoppedName {
			continue
		}
		all.unless(l.Unanswered == 0, "%s: %d requests were not answered", l.What, l.Unanswered)
		all.unless(l.P50 < 100, "%s at %d a second: p50 is %.1f ms", l.What, l.Rate, l.P50)
		all.unless(l.P99 < 1000+stalls, "%s at %d a second: p99 is %.1f ms", l.What, l.Rate, l.P99)
	}
	if _, _, ok := r.stoppedLog(); ok {
		all.unless(r.Dropped > 0 || r.Quick, "nobody reads a log, and no line of it was dropped")
	}
	for _, u := range r.Upstream {
		if u.Who != functionName {
			continue
		}
		all.unless(u.Vault <= 3 && u.Ory <= 3, "at %d probes a second Vault is asked %.1f and Ory %.1f times", u.Rate, u.Vault, u.Ory)
		all.unless(u.Vault > 0 && u.Ory > 0, "at %d probes a second nobody is asked", u.Rate)
		all.unless(u.Oldest < 3, "at %d probes a second a verdict is %.1f s old", u.Rate, u.Oldest)
	}
	if few, many, ok := r.grown(); ok {
		all.unless(many.CPU < 2*few.CPU, "ready takes %.1f µs with %d dependencies and %.1f µs with %d", many.CPU, many.Dependencies, few.CPU, few.Dependencies)
	}
	if everything {
		wanted := 21
		if r.NoValgrind != "" {
			wanted -= 5
		}
		all.unless(len(r.aims()) == wanted, "%d aims were measured, not %d", len(r.aims()), wanted)
	}
	return all.err()
}

// problems are what is broken.
type problems []string

func (p *problems) unless(good bool, format string, values ...any) {
	if !good {
		*p = append(*p, fmt.Sprintf(format, values...))
	}
}

func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return fmt.Errorf("broken: %q", *p)
}
