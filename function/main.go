// Command function is CoffeeBuddy's function as a program: it listens, serves, and
// drains on SIGTERM. All it can be told is in its environment; see the README. With the
// argument check it asks its dependencies once, says what is not ready and why, and ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"coffeebuddy"
	"coffeebuddy/handler/connections"
	"coffeebuddy/logging"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
	}
	collect()
	logs := logging.NewWriter(os.Stdout)
	err := run(logs)
	flush(logs)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// collect has the garbage collector run half as often as Go's default, unless the environment
// says when it runs. That costs 4 MiB under load and makes every request a few percent cheaper.
// The manifests set GOMEMLIMIT, and so have Go's default: in a flood of connections garbage counts.
func collect() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(200)
	}
}

// flush lets the last log lines leave. A log that nobody reads does not keep the process.
func flush(logs *logging.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = logs.Flush(ctx)
}

// run turns the outside world into values: signals, settings, a listener.
func run(logs *logging.Writer) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more is no reason to die
	settings, err := coffeebuddy.Load()
	if err != nil {
		return err
	}
	function, err := coffeebuddy.NewFunction(settings, logs, coffeebuddy.Features()...)
	if err != nil {
		return err
	}
	if err := function.ListenDebug(); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(settings.HTTPHost, strconv.Itoa(settings.Port)))
	if err != nil {
		return fmt.Errorf("listen on COFFEEBUDDY_HTTP_HOST and port %d: %w", settings.Port, cause(err))
	}
	return serve(function, settings, listener, signals)
}

// serve returns when all is answered after the first signal, or at once on the second.
func serve(function *coffeebuddy.Function, settings coffeebuddy.Settings, listener net.Listener, signals <-chan os.Signal) error {
	bounded := connections.Listen(listener, connections.Config{Limit: settings.Connections, Refused: function.Refused})
	if err := function.Metrics().Register(bounded); err != nil {
		return fmt.Errorf("register the metrics of connections: %w", err)
	}
	server := newServer(function, bounded)
	function.Listening()
	ended := make(chan error, 1)
	go func() { ended <- fmt.Errorf("serve: %w", server.Serve(bounded)) }()
	function.Log().Info("listening", "port", settings.Port)
	select {
	case err := <-ended:
		return err
	case <-signals:
	}

	ctx, cancel := context.WithTimeout(context.Background(), settings.ShutdownTimeout)
	defer cancel()
	function.Drain()
	drained := make(chan error, 1)
	go func() { drained <- drain(ctx, function, server, bounded) }()
	function.Log().Info("draining", "timeout_seconds", settings.ShutdownTimeout.Seconds())
	select {
	case err := <-drained:
		return err
	case <-signals:
		return errors.New("ended at once by a second signal")
	}
}

// drain answers what is in flight, and what was racing the signal, until ctx ends.
func drain(ctx context.Context, function *coffeebuddy.Function, server *http.Server, listener *connections.Listener) error {
	// net/http drops, unanswered, what it reads after Shutdown began. So no connection
	// comes any more, and those that have come get their request read, before it does.
	time.Sleep(300 * time.Millisecond)
	_ = listener.Close()
	time.Sleep(50 * time.Millisecond)
	listener.Drain()
	// Its error is that connections are left. What counts is whether one has a request.
	shutdown := server.Shutdown(ctx)
	if err := function.Wait(ctx); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	if shutdown != nil {
		return server.Close()
	}
	return nil
}
