package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"
)

// The comments around what is generated.
const (
	begin = "<!-- make bench writes from here -->"
	end   = "<!-- to here -->"
)

// results are all that was measured.
type results struct {
	Machine    machine       `json:"machine"`
	Versions   []version     `json:"versions"`
	NoPython   string        `json:"no_python,omitempty"` // why the FastAPI service is missing
	Quick      bool          `json:"quick"`
	LoadBefore float64       `json:"load_before"`
	Took       time.Duration `json:"took"`

	Throughput []throughput `json:"throughput"`
	Series     [2]int       `json:"series"` // lines that the function's /metrics has, and promhttp's alone
	Latency    []latency    `json:"latency"`
	Starts     []start      `json:"starts"`
	Footprint  []footprint  `json:"footprint"`
	Upstream   []upstream   `json:"upstream"`
	Growth     []growth     `json:"growth"`

	NoValgrind   string         `json:"no_valgrind,omitempty"` // why instructions are missing
	Instructions []instructions `json:"instructions"`
	Receive      []receive      `json:"receive"`
	Dropped      int            `json:"dropped"` // log lines, where nobody reads the log
}

// rewrite replaces what is between the two comments of a file.
func rewrite(file, text string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(content, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return fmt.Errorf("%s has no %q with a %q after it", file, begin, end)
	}
	var whole bytes.Buffer
	fmt.Fprintf(&whole, "%s%s\n\n%s\n\n%s%s", before, begin, strings.TrimSpace(text), end, after)
	return os.WriteFile(file, whole.Bytes(), 0o644)
}

// A table is Markdown's.
type table struct{ strings.Builder }

func newTable(columns ...string) *table {
	t := new(table)
	t.line(columns)
	fmt.Fprintln(t, "|"+strings.Repeat("---|", len(columns)))
	return t
}

func (t *table) line(cells []string) { fmt.Fprintf(t, "| %s |\n", strings.Join(cells, " | ")) }

func (t *table) row(cells ...string) { t.line(cells) }

// markdown is the generated part of docs/performance.md.
func (r *results) markdown() string {
	var text strings.Builder
	section := func(title string, there int, lines ...string) {
		if there == 0 {
			return // the step was not run
		}
		fmt.Fprintf(&text, "## %s\n\n%s\n\n", title, strings.TrimSpace(strings.Join(lines, "\n")))
	}
	text.WriteString(r.head() + "\n\n")
	section("Aims", len(r.aims()), r.aimsTable())
	section("Throughput", len(r.Throughput), throughputWords, "", r.throughputTable(), r.metricsWords())
	section("Latency", len(r.Latency), latencyWords, "", r.latencyTable(), r.droppedWords())
	section("Cold start", len(r.Starts), startWords, "", r.startsTable())
	section("Without a network", len(r.Receive), receiveWords, "", r.receiveTable())
	section("Size and memory", len(r.Footprint), footprintWords, "", r.footprintTable())
	section("What Vault and Ory are asked", len(r.Upstream), upstreamWords, "", r.upstreamTable())
	section("More dependencies", len(r.Growth), growthWords, "", r.growthTable())
	return text.String()
}

func (r *results) head() string {
	versions := make([]string, len(r.Versions))
	for i, v := range r.Versions {
		versions[i] = v.Name + " " + v.Version
	}
	text := fmt.Sprintf("%s, %d cores, %.0f GiB of memory, %s; %s; %s. The run took %s; before it, %.1f threads wanted a processor, in the mean of a minute.",
		r.Machine.Processor, r.Machine.Cores, r.Machine.MemoryGiB, r.Machine.Kernel, r.Machine.Day.Format(time.DateOnly), strings.Join(versions, ", "),
		r.Took.Round(time.Second), r.LoadBefore)
	if r.NoPython != "" {
		text += "\n\nThe rows of the FastAPI service are missing: " + r.NoPython + "."
	}
	if r.NoValgrind != "" {
		text += "\n\nInstructions are missing: " + r.NoValgrind + "."
	}
	return text
}

const throughputWords = `Eight connections (for metrics four, which is what the function answers at a time), each asked again
as soon as it has answered, by a client that writes fixed bytes. Median and quartiles of the rounds; the ratio
is to bare net/http, measured before and after in the same round. The client and, where they are asked, Vault
and Hydra are on the same cores. Processor time is the server's own, of all its processes. Instructions are
valgrind's count on the server, for a number of requests on one connection and for twice as many, the
difference divided: they do not include the kernel's, and repeat within a few percent however busy the machine
is. Allocations are heap objects, by the runtime's own count before and after, including those of net/http.

An event has 100 bytes; this function's log line of each goes to /dev/null, the others write none. The
CloudEvents SDK's receiver, and func-go, which is built on it, now and then leave one of several requests
unanswered until another one comes, and then that one. Such a connection is given up after 15 ms, replaced, and
counted as unanswered: each lowers their rate by 15 ms of one of the eight connections, and moves no other
column. They are started anew for each round.`

func (r *results) throughputTable() string {
	t := newTable("", "requests per second", "quartiles", "ratio to bare", "quartiles", "µs of processor each", "thousand instructions each", "allocations each", "unanswered")
	what := ""
	for _, row := range r.Throughput {
		if row.What != what {
			what = row.What
			t.row(what, "", "", "", "", "", "", "", "")
		}
		ratio, quartiles := "", ""
		if row.Ratio.Rounds > 0 {
			ratio, quartiles = figure(row.Ratio.Median), figure(row.Ratio.Low)+"–"+figure(row.Ratio.High)
		}
		t.row(row.Who, thousands(row.PerSecond.Median), thousands(row.PerSecond.Low)+"–"+thousands(row.PerSecond.High), ratio, quartiles,
			figure(row.CPU), known(r.instructionsOf(row.What, row.Who)/1e3), counted(row.Allocations), fmt.Sprint(row.Unanswered))
	}
	return t.String()
}

// metricsWords says how equal the expositions are.
func (r *results) metricsWords() string {
	size := func(who string) int {
		for _, row := range r.Throughput {
			if row.What == metrics && row.Who == who {
				return row.Bytes
			}
		}
		return 0
	}
	words := fmt.Sprintf("Metrics are asked for as plain text. promhttp alone has copies of the function's collectors in its registry, after the same kinds of requests, and nothing of ours around it: %d lines in %s bytes, the function %d in %s.",
		r.Series[1], thousands(float64(size(promhttpName))), r.Series[0], thousands(float64(size(functionName))))
	if n := size(fastapiName); n > 0 {
		words += fmt.Sprintf(" The FastAPI service has its own few, %s bytes.", thousands(float64(n)))
	}
	return "\n" + words
}

const latencyWords = `Each request at its time, whether those before were answered or not; counted from when it was due, so
that a stall shows in all that had to wait for it. A request that was not answered within 10 s of the last one
(0.25 s for the SDK and func-go, whose slowest requests are those) is in with the time until then.`

func (r *results) latencyTable() string {
	t := newTable("", "per second", "p50 ms", "p99 ms", "p99 of the rounds", "max ms", "requests", "unanswered")
	what := ""
	for _, row := range r.Latency {
		if row.What != what {
			what = row.What
			t.row(what, "", "", "", "", "", "", "")
		}
		t.row(row.Who, thousands(float64(row.Rate)), figure(row.P50), figure(row.P99), figure(row.P99Low)+"–"+figure(row.P99High), figure(row.Max),
			thousands(float64(row.Requests)), fmt.Sprint(row.Unanswered))
	}
	return t.String()
}

const startWords = `From exec to the first 200 of ` + "`GET /health/live`" + `, asked again every 50 µs; all in turn.
Instructions include those of an orderly end after SIGTERM, where a program has one.`

const receiveWords = `An event of 100 bytes to a receiver that does nothing, beside the CloudEvents SDK
(` + "`BenchmarkReceive` in `test/conformance`" + `): processor time, the least of the runs. Inline is the SDK's decoding
and validation alone; its receiver does not route, bound, time, count, log, or wait for a deadline.`

func (r *results) receiveTable() string {
	t := newTable("", "", "µs of processor each", "ratio to the SDK's receiver", "allocations each")
	names := map[string]string{"handler": "**this handler**", "handler_quiet": "**this handler**, no log line", "SDK_receiver": "CloudEvents SDK's receiver", "SDK_inline": "CloudEvents SDK, inline"}
	for _, row := range r.Receive {
		ratio := ""
		if sdk, ok := r.received(row.What, "SDK_receiver"); ok {
			ratio = figure(row.CPU / sdk.CPU)
		}
		t.row(row.What, cmp.Or(names[row.Who], row.Who), figure(row.CPU/1e3), ratio, counted(row.Allocations))
	}
	return t.String()
}

// droppedWords says what became of the log lines that nobody read.
func (r *results) droppedWords() string {
	if r.Dropped == 0 {
		return ""
	}
	return fmt.Sprintf("\nWhere nobody reads the log, its lines go to a pipe that is full: %s were dropped, and counted.", thousands(float64(r.Dropped)))
}

func (r *results) startsTable() string {
	t := newTable("", "starts", "p50 ms", "p99 ms", "max ms", "million instructions")
	for _, s := range r.Starts {
		t.row(s.Who, fmt.Sprint(s.Starts), figure(s.P50), figure(s.P99), figure(s.Max), known(r.instructionsOf(starting, s.Who)/1e6))
	}
	return t.String()
}

// known returns a figure, and nothing for one that was not measured.
func known(value float64) string {
	if value == 0 {
		return ""
	}
	return figure(value)
}

const footprintWords = `Stripped binaries, and the layer of an image as ko makes it (a tar with the binary, compressed with gzip for speed). Resident memory after start and a few answers, and after
the throughput above; of the FastAPI service that of all its processes, what they share counted once.`

func (r *results) footprintTable() string {
	t := newTable("", "binary MB", "layer MB", "idle MiB", "after load MiB")
	for _, f := range r.Footprint {
		t.row(f.Who, size(f.Binary), size(f.Layer), figure(f.Idle), figure(f.Loaded))
	}
	return t.String()
}

const upstreamWords = `Requests in a second to a Vault and an Ory that answer at once and count. This function's include Vault's lookup of the token, every 30 s. The oldest verdict is by the
` + "`checked_at`" + ` of answers, looked at ten times a second.`

func (r *results) upstreamTable() string {
	t := newTable("", "probes per second", "answered", "to Vault", "to Ory", "oldest verdict")
	for _, u := range r.Upstream {
		oldest := ""
		if u.Oldest >= 0 {
			oldest = figure(u.Oldest) + " s"
		}
		t.row(u.Who, thousands(float64(u.Rate)), thousands(u.Managed), figure(u.Vault), figure(u.Ory), oldest)
	}
	return t.String()
}

const growthWords = "A probe that is answered, with 2, 8 and 32 dependencies whose checks ask nobody. Everything in the body grows with them; the ratio is to 2 dependencies in the same round."

func (r *results) growthTable() string {
	t := newTable("", "dependencies", "requests per second", "ratio", "quartiles", "µs of processor each", "allocations each", "bytes")
	for _, g := range r.Growth {
		t.row(g.Who, fmt.Sprint(g.Dependencies), thousands(g.PerSecond.Median), figure(g.Ratio.Median), figure(g.Ratio.Low)+"–"+figure(g.Ratio.High),
			figure(g.CPU), counted(g.Allocations), thousands(float64(g.Bytes)))
	}
	return t.String()
}
