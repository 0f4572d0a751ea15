package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"coffeebuddy/test/bench/internal/served"
	"coffeebuddy/test/devstack"
)

// A program is one that can be started.
type program struct {
	name    string // in the tables
	path    string
	args    []string // PORT in one stands for the port
	env     []string // beside that of the platform
	family  bool     // it starts others
	log     string   // where its output goes; empty: /dev/null
	live    string   // the path that answers 200 as soon as it serves
	mallocs string   // the path that says what it has allocated; empty: none does

	patience time.Duration // how long an answer is waited for when nothing is asked any more

	// The CloudEvents SDK's receiver, and what is built on it, now and then leaves one of several requests unanswered until another one
	// comes, which is then the one without; with each, less and less is answered. So it is started anew for each round.
	forgetful bool
}

// A server is a program that runs.
type server struct {
	program
	*devstack.Process
	address string
}

const (
	patience = 10 * time.Second

	// impatience is for what is forgetful: its last answers would be waited for in vain.
	impatience = 250 * time.Millisecond
)

func (b *bench) function(name string, env ...string) program {
	return program{
		name: name, path: b.binaries["function"], live: "/health/live", mallocs: "/metrics",
		patience: patience,
		env:      append([]string{"COFFEEBUDDY_HTTP_HOST=127.0.0.1"}, env...),
	}
}

func (b *bench) goProgram(name, binary string, env ...string) program {
	p := program{name: name, path: b.binaries[binary], live: "/health/live", mallocs: served.MallocsPath, env: env, patience: patience}
	switch binary {
	case "funcgo":
		p.live = "/health/liveness"
		p.env = append(p.env, "ADDRESS=127.0.0.1")
		p.patience, p.forgetful = impatience, true
	case "sdk":
		p.patience, p.forgetful = impatience, true
	}
	return p
}

// fastAPI has a worker for each core. Its metrics are in files, as they must with more than one.
func (b *bench) fastAPI(name string) program {
	return program{
		name: name, path: b.python, family: true, live: "/health/live", patience: patience,
		args: []string{
			"-m", "uvicorn", "app:app", "--app-dir", filepath.Join(b.root, "test", "bench", "fastapi"), "--host", "127.0.0.1", "--port", "PORT",
			"--workers", strconv.Itoa(runtime.NumCPU()), "--loop", "uvloop", "--http", "httptools",
			"--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "120",
		},
		env: []string{"PATH=" + os.Getenv("PATH"), "PYTHONDONTWRITEBYTECODE=1"},
	}
}

// command returns how to run a program on a free port, told of a platform.
func (b *bench) command(ctx context.Context, p program, to platform) (command devstack.Command, address string, err error) {
	address, err = freeAddress(ctx)
	if err != nil {
		return command, "", err
	}
	_, port, _ := strings.Cut(address, ":")
	env := append(append([]string{"PORT=" + port}, to.env()...), p.env...)
	if p.family {
		files, err := os.MkdirTemp(b.dir, "metrics")
		if err != nil {
			return command, "", err
		}
		env = append(env, "PROMETHEUS_MULTIPROC_DIR="+files)
	}
	args := make([]string, len(p.args))
	for i, arg := range p.args {
		args[i] = strings.ReplaceAll(arg, "PORT", port)
	}
	return devstack.Command{Name: p.name, Path: p.path, Args: args, Env: env, Dir: b.dir, Log: cmp.Or(p.log, os.DevNull), Family: p.family}, address, nil
}

// start runs a program and returns when it answers.
func (b *bench) start(ctx context.Context, p program, to platform) (*server, error) {
	command, address, err := b.command(ctx, p, to)
	if err != nil {
		return nil, err
	}
	command.Ready = func(context.Context) error {
		_, err := askOnce(address, get(p.live, 200))
		return err
	}
	process, err := devstack.StartProcess(ctx, command)
	if err != nil {
		return nil, err
	}
	return &server{p, process, address}, nil
}

// refresh starts a forgetful server anew, at the same address.
func (s *server) refresh(ctx context.Context) error {
	if !s.forgetful {
		return nil
	}
	s.Kill()
	return s.Start(ctx)
}

// allocated returns how many heap objects the server has allocated so far.
func (s *server) allocated() (float64, error) {
	body, err := askOnce(s.address, get(s.mallocs, 200))
	if err != nil {
		return 0, err
	}
	if s.mallocs == "/metrics" {
		_, after, ok := bytes.Cut(body, []byte("\ngo_gc_heap_allocs_objects_total ")) // the function's; the library's own is the other
		if !ok {
			_, after, ok = bytes.Cut(body, []byte("\ngo_memstats_mallocs_total "))
		}
		if !ok {
			return 0, fmt.Errorf("%s does not count its allocations", s.name)
		}
		body, _, _ = bytes.Cut(after, []byte("\n"))
	}
	return strconv.ParseFloat(strings.TrimSpace(string(body)), 64)
}

// becomes asks until the answer is the one that is wanted.
func (s *server) becomes(ctx context.Context, r request) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		_, err := askOnce(s.address, r)
		if err == nil {
			return nil
		}
		until(ctx, time.Now().Add(10*time.Millisecond))
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
}
