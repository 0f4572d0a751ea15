package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"coffeebuddy"
	"coffeebuddy/checks"
)

// The exit codes of function check.
const (
	exitReady    = 0
	exitNotReady = 1
	exitSettings = 2 // settings are wrong, or the arguments are
)

const usage = "usage: function [check [-o json]]: serve, or ask each dependency once and say which is not ready and why"

// checkTimeout bounds function check as a whole; logoutTime of it is kept for giving back
// the token of a login. leftBehind is how long a check may take to notice its deadline.
const (
	checkTimeout = 5 * time.Second
	logoutTime   = 500 * time.Millisecond
	leftBehind   = 100 * time.Millisecond
)

// command does what the program's arguments say, and returns its exit code.
func command(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	format := flags.String("o", "text", "")
	if args[0] != "check" || flags.Parse(args[1:]) != nil || flags.NArg() > 0 || *format != "text" && *format != "json" {
		_, _ = fmt.Fprintln(errs, usage)
		return exitSettings
	}
	result := check()
	write := result.writeText
	if *format == "json" {
		write = result.writeJSON
	}
	if err := write(out); err != nil {
		_, _ = fmt.Fprintln(errs, "write the result:", err)
		return exitNotReady
	}
	return result.exitCode()
}

// A result is what function check found.
type result struct {
	Ready        bool         `json:"ready"`
	Settings     []variable   `json:"settings"`
	Dependencies []dependency `json:"dependencies"` // none are asked where the function would not start

	panicked bool // a feature did, so the function would not start
}

// A dependency is one dependency's verdict and the way there.
type dependency struct {
	Name     string        `json:"name"`
	Status   string        `json:"status"` // ok or unavailable, as in /health/ready
	Reason   checks.Reason `json:"reason,omitempty"`
	Detail   string        `json:"detail,omitempty"`
	Advice   string        `json:"advice,omitempty"`
	Requests []*request    `json:"requests"`
}

// check reads the settings as the function does, and asks each dependency once, as a
// readiness probe does. It listens nowhere.
func check() *result {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	settings, err := coffeebuddy.Load()
	found := &result{Settings: judge(settings, err), Dependencies: []dependency{}}
	if err != nil {
		return found
	}
	function, err := build(func() (*coffeebuddy.Function, error) {
		return coffeebuddy.NewFunction(settings, io.Discard, coffeebuddy.Features()...)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		found.panicked = errors.Is(err, errPanic)
		return found
	}
	checkers := function.Dependencies()
	found.Dependencies = make([]dependency, len(checkers))
	asking, stop := context.WithTimeout(ctx, min(settings.CheckTimeout, checkTimeout-logoutTime))
	defer stop()
	var all sync.WaitGroup
	for i, checker := range checkers {
		all.Go(func() { found.Dependencies[i] = ask(asking, checker) })
	}
	all.Wait()
	found.Ready = true
	for _, d := range found.Dependencies {
		found.Ready = found.Ready && d.Reason == ""
	}
	_ = function.Wait(ctx) // gives the token of a login back, as the end of the function does
	return found
}

// errPanic is the error of a feature that panics.
var errPanic = errors.New("a feature panicked")

// build calls start. A feature's panic becomes an error without the panic's value, which may hold
// a secret.
func build(start func() (*coffeebuddy.Function, error)) (function *coffeebuddy.Function, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("register the features: %w", errPanic)
		}
	}()
	return start()
}

// guarded asks one dependency. As in readiness, a check that panics is a bad response; the panic's
// value, which may hold a secret, is not shown.
func guarded(ctx context.Context, checker checks.Checker) (err error) {
	defer func() {
		if recover() != nil {
			err = checks.Fail(checks.ReasonBadResponse, "the check panicked")
		}
	}()
	return checker.Check(ctx)
}

// ask asks one dependency. A check that ignores the end of ctx is left behind.
func ask(ctx context.Context, checker checks.Checker) dependency {
	way := new(way)
	done := make(chan error, 1)
	go func() { done <- guarded(way.watch(ctx), checker) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done: // which knows more
		case <-time.After(leftBehind):
			err = checks.Fail(checks.ReasonTimeout, "the check did not end at its deadline")
		}
	}
	d := dependency{Name: checker.Name(), Status: "ok", Reason: checks.ReasonOf(err), Requests: way.taken()}
	if err == nil {
		return d
	}
	d.Status, d.Advice = "unavailable", advice(d.Reason)
	if failed, ok := errors.AsType[*checks.Error](err); ok {
		d.Detail = failed.Detail
	}
	return d
}

// exitCode returns 2 as long as a setting must change before the function can be ready, and where
// the function does not start for another reason than a panic.
func (r *result) exitCode() int {
	switch {
	case r.panicked:
		return exitNotReady
	case len(r.Dependencies) == 0:
		return exitSettings
	}
	for _, v := range r.Settings {
		if v.State == stateWrong {
			return exitSettings
		}
	}
	if r.Ready {
		return exitReady
	}
	return exitNotReady
}
