package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
)

func TestRewriteLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	file := filepath.Join(t.TempDir(), "performance.md")
	is.NoErr(os.WriteFile(file, []byte("before\n\n"+begin+"\nold\n"+end+"\n\nafter\n"), 0o600))
	for range 2 {
		is.NoErr(rewrite(file, "new\n"))
		content, err := os.ReadFile(file)
		is.NoErr(err)
		is.Equal(string(content), "before\n\n"+begin+"\n\nnew\n\n"+end+"\n\nafter\n")
	}
	is.NoErr(os.WriteFile(file, []byte(end+begin), 0o600))
	is.True(rewrite(file, "new") != nil) // and it is not written
}

func TestTheDocumentationHasThePlace(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	content, err := os.ReadFile("../../docs/performance.md")
	is.NoErr(err)
	_, after, ok := strings.Cut(string(content), begin)
	is.True(ok)
	is.True(strings.Contains(after, end))
}

func TestFigures(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for value, text := range map[float64]string{
		0: "0.00", 0.0123: "0.012", 0.9: "0.90", 63.64: "63.6", 124.6: "125", 4166: "4,166", 41_723: "41,720", 1_234_567: "1,235,000",
	} {
		is.Equal(figure(value), text)
	}
	is.Equal(spreadOf([]float64{5, 1, 3, 2, 4}), spread{Median: 3, Low: 2, High: 4, Rounds: 5})
	is.Equal(spreadOf(nil), spread{})
}

// good are results with nothing broken in them.
func good() *results {
	row := func(what, who string) throughput {
		return throughput{What: what, Who: who, PerSecond: spread{Median: 1}, Ratio: spread{Median: 1, Rounds: 1}, ratios: []float64{1}}
	}
	r := &results{
		Throughput: []throughput{row(live, functionName), row(ready, functionName), row(metrics, functionName), row(metrics, promhttpName)},
		Series:     [2]int{200, 200},
		Latency: []latency{
			{What: live, Who: bareName, Max: 5},
			{What: readyHung, Who: functionName, P50: 61, P99: 65},
			{What: binaryEcho, Who: functionName, Rate: fastRate, P99: 3, P99High: 4},
			{What: binaryEcho, Who: stoppedName, Rate: fastRate, P99: 3},
		},
		Starts:       []start{{Who: bareName, P50: 3}, {Who: functionName, P50: 6}},
		Footprint:    []footprint{{Who: functionName, Binary: 14e6, Layer: 6e6, Idle: 14, Loaded: 20}},
		Upstream:     []upstream{{Who: functionName, Rate: 10_000, Vault: 1, Ory: 1, Oldest: 1}},
		Growth:       []growth{{Who: handlerName, Dependencies: 2, CPU: 20}, {Who: handlerName, Dependencies: 32, CPU: 21}},
		Dropped:      1,
		Instructions: []instructions{{starting, functionName, 7.5e6}},
		Receive:      []receive{{"binary", "handler", 6, 14}, {"binary", "SDK_receiver", 10, 25}, {"structured", "handler", 6, 14}, {"structured", "SDK_receiver", 10, 34}},
	}
	for what, who := range map[string]string{binaryEvent: handlerName, structEvent: handlerName, binaryEcho: functionName, structEcho: functionName} {
		ours, sdk := row(what, who), row(what, sdkName)
		ours.CPU, sdk.CPU = 17, 20
		r.Throughput = append(r.Throughput, ours, sdk)
		r.Instructions = append(r.Instructions, instructions{what, who, 75e3})
	}
	return r
}

func TestWhatIsBrokenIsSaid(t *testing.T) {
	t.Parallel()
	is.New(t).NoErr(good().broken(true))
	for says, plant := range map[string]func(*results){
		"nothing was answered":   func(r *results) { r.Throughput[0].PerSecond.Median = 0 },
		"2 requests were not":    func(r *results) { r.Throughput[1].Unanswered = 2 },
		"promhttp's alone 100":   func(r *results) { r.Series[1] = 100 },
		"p50 is 101.0 ms":        func(r *results) { r.Latency[1].P50 = 101 },
		"p99 is 1006.0 ms":       func(r *results) { r.Latency[1].P99 = 1006 },
		"1 requests were not":    func(r *results) { r.Latency[1].Unanswered = 1 },
		"Ory 20000.0 times":      func(r *results) { r.Upstream[0].Ory = 20_000 },
		"nobody is asked":        func(r *results) { r.Upstream[0].Vault = 0 },
		"a verdict is 10.0 s":    func(r *results) { r.Upstream[0].Oldest = 10 },
		"40.0 µs with 32":        func(r *results) { r.Growth[1].CPU = 40 },
		"no line of it was":      func(r *results) { r.Dropped = 0 },
		"20 aims were measured":  func(r *results) { r.Growth = nil },
		"18 aims were measured":  func(r *results) { r.Throughput = r.Throughput[3:] },
		"21 aims were measured,": func(r *results) { r.NoValgrind = "none" },
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			r := good()
			plant(r)
			err := r.broken(true)
			is.True(err != nil)
			is.True(strings.Contains(err.Error(), says))
		})
	}
}

func TestAimsAreReachedOrNot(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	r := good()
	reached := make(map[string]bool)
	for _, a := range r.aims() {
		reached[a.what] = a.reached
	}
	is.Equal(reached["live, ratio to bare net/http"], true)
	is.Equal(reached[binaryEvent+": processor time over the CloudEvents SDK's"], true) // 0.85, at most 0.85
	is.Equal(reached["metrics, ratio to promhttp alone"], true)
	is.Equal(reached["resident memory, idle"], true) // 14 MiB, at most 14 MiB
	r.Footprint[0].Idle++
	is.True(strings.Contains(r.aimsTable(), "| **not reached** |"))
}
