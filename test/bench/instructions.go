package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"coffeebuddy/test/devstack"
)

// An instructions is how many instructions a server runs for one request, or to start. They do not depend on how busy the machine is,
// and do not include the kernel's.
type instructions struct {
	What string  `json:"what"`
	Who  string  `json:"who"`
	Each float64 `json:"each"`
}

// starting is the group of instructions from exec to the first 200, and to an orderly end.
const starting = "start"

// A counted row is a program and what it is asked.
type countedRow struct {
	what    string
	program program
	request request
	count   int // of requests; 0: the start is counted
}

// instructions runs servers under valgrind, each once for a number of requests and once for twice as many, and divides the difference.
func (b *bench) instructions(ctx context.Context) error {
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		b.results.NoValgrind = "valgrind is not installed (on Debian: apt-get install --no-install-recommends valgrind)"
		progress("no instructions: %s", b.results.NoValgrind)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	to, _, _, err := played(ctx)
	if err != nil {
		return err
	}
	rows := b.countedRows()
	counted := make([]instructions, len(rows))
	errs := make([]error, len(rows))
	var running sync.WaitGroup
	slots := make(chan struct{}, 2)
	for i, r := range rows {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			counted[i] = instructions{What: r.what, Who: r.program.name}
			counted[i].Each, errs[i] = b.instructionsOf(ctx, valgrind, r, to)
		})
	}
	running.Wait()
	b.results.Instructions = counted
	return errors.Join(errs...)
}

func (b *bench) countedRows() []countedRow {
	const echo, order = "boson.fn", "coffee.ordered"
	// Its checks run by the clock, which is slow under valgrind: a verdict is fresh for the whole run.
	function := b.function(functionName, "COFFEEBUDDY_CHECK_TTL=15s")
	bare, handler := b.goProgram(bareName, "bare"), b.goProgram(handlerName, "receiver")
	sdk, funcgo, promhttp := b.goProgram(sdkName, "sdk"), b.goProgram(funcgoName, "funcgo"), b.goProgram(promhttpName, "promhttp")
	probe, many, few := get("/health/live", 200), b.counting, max(10, b.counting/50)
	rows := []countedRow{
		{live, bare, probe, many},
		{live, b.goProgram(timeoutsName, "bare", "BARE=timeouts"), probe, many},
		{live, b.goProgram(headersName, "bare", "BARE=headers"), probe, many},
		{live, function, probe, many},
		{ready, function, get("/health/ready", 200), many},
		{metrics, function, get("/metrics", 200), few},
		{metrics, promhttp, get("/metrics", 200), few},
	}
	for _, mode := range []struct{ name, nothing, echoed string }{{"binary", binaryEvent, binaryEcho}, {"structured", structEvent, structEcho}} {
		rows = append(rows,
			countedRow{mode.nothing, handler, event(mode.name, order, 204), many},
			countedRow{mode.nothing, sdk, event(mode.name, order, 200), many},
			countedRow{mode.nothing, funcgo, event(mode.name, order, 200), many},
			countedRow{mode.echoed, function, event(mode.name, echo, 200), many},
			countedRow{mode.echoed, sdk, event(mode.name, echo, 200), many},
			countedRow{mode.echoed, funcgo, event(mode.name, echo, 200), many},
		)
	}
	for _, p := range []program{bare, function, b.goProgram(healthName, "health"), sdk, funcgo, promhttp} {
		rows = append(rows, countedRow{what: starting, program: p})
	}
	if !b.countPeers {
		rows = slices.DeleteFunc(rows, func(r countedRow) bool { return r.program.name != functionName && r.program.name != handlerName })
	}
	return rows
}

func (b *bench) instructionsOf(ctx context.Context, valgrind string, r countedRow, to platform) (float64, error) {
	once, err := b.runCounted(ctx, valgrind, r, to, r.count)
	if err != nil || r.count == 0 {
		return once, err
	}
	twice, err := b.runCounted(ctx, valgrind, r, to, 2*r.count)
	return (twice - once) / float64(r.count), err
}

// runCounted starts a program, asks it so often on one connection, ends it, and returns how many instructions it ran.
func (b *bench) runCounted(ctx context.Context, valgrind string, r countedRow, to platform, requests int) (count float64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s, %s: %w", r.what, r.program.name, err)
		}
	}()
	command, address, err := b.command(ctx, r.program, to)
	if err != nil {
		return 0, err
	}
	log, err := os.CreateTemp(b.dir, "valgrind")
	if err != nil {
		return 0, err
	}
	defer log.Close()
	command.Args = append([]string{"--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--log-file=" + log.Name(), command.Path}, command.Args...)
	command.Path, command.ReadyTimeout = valgrind, time.Minute
	command.Ready = func(context.Context) error {
		_, err := askOnce(address, get(r.program.live, 200))
		return err
	}
	process, err := devstack.StartProcess(ctx, command)
	if err != nil {
		return 0, err
	}
	defer process.Kill()
	if requests > 0 {
		s := &server{r.program, process, address}
		if err := s.becomes(ctx, r.request); err != nil {
			return 0, err
		}
		if err := askInTurn(address, r.request, requests); err != nil {
			return 0, err
		}
	}
	if err := process.Stop(ctx); err != nil {
		return 0, err
	}
	return totalOf(log.Name())
}

func askInTurn(address string, r request, requests int) error {
	c, err := dial(address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	for range requests {
		if _, err := c.ask(r); err != nil {
			return err
		}
	}
	return nil
}

var total = regexp.MustCompile(`I\s+refs:\s+([0-9,]+)`)

// totalOf reads what cachegrind writes at a program's end.
func totalOf(log string) (float64, error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return 0, err
	}
	found := total.FindSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("valgrind counted nothing: %.300s", text)
	}
	return strconv.ParseFloat(strings.ReplaceAll(string(found[1]), ",", ""), 64)
}

// instructionsOf returns what a row takes, 0 where it was not counted.
func (r *results) instructionsOf(what, who string) float64 {
	for _, i := range r.Instructions {
		if i.What == what && i.Who == who {
			return i.Each
		}
	}
	return 0
}
