// Command receiver is this project's handler as the function serves it, with what the function itself has not: a receiver that returns
// nothing (for the type coffee.ordered) and, with DEPENDENCIES=n, n dependencies that ask nobody.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/logging"
	"coffeebuddy/test/bench/internal/served"
)

type dependency string

func (d dependency) Name() string              { return string(d) }
func (dependency) Check(context.Context) error { return nil }

func main() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(200) // as the function does
	}
	n, _ := strconv.Atoi(os.Getenv("DEPENDENCIES")) // none where there is no such number
	var all []checks.Checker
	for i := range n {
		all = append(all, dependency(fmt.Sprintf("dependency-%d", i)))
	}
	readiness, err := checks.New(checks.Options{TTL: time.Second, Timeout: 2 * time.Second}, all...)
	if err != nil {
		served.Exit(err)
	}
	registry := prometheus.NewRegistry()
	log := slog.New(logging.NewHandler(logging.NewWriter(os.Stdout), slog.LevelInfo)).With("app", "coffeebuddy", "environment", "prod")
	engine, err := events.New(events.Config{Registry: registry, Log: log})
	if err != nil {
		served.Exit(err)
	}
	h, err := handler.New(handler.Config{
		App: "coffeebuddy", Environment: "prod", Version: "bench", Started: time.Now(),
		Ready: func(ctx context.Context) handler.Readiness {
			v := readiness.Verdict(ctx)
			return handler.Readiness{Ready: v.Ready(), Retry: v.Retry(), JSON: v.JSON()}
		},
		Events: engine, Echo: true, Registry: registry, Log: log,
	})
	if err != nil {
		served.Exit(err)
	}
	if err := engine.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) { return nil, nil }); err != nil {
		served.Exit(err)
	}
	served.Run(h)
}
