// Package coffeebuddy is the function: it wires settings, dependency checks and the
// HTTP handler into one.
//
// There are two ways to run it. The program in function/ calls [Load] and
// [NewFunction], listens and serves; that is what ko builds. func's scaffolding
// calls [New], and serves the [Instance] it gets by itself.
package coffeebuddy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"runtime"
	"runtime/debug"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/ledger"
	"coffeebuddy/logging"
	"coffeebuddy/slack"
	"coffeebuddy/vault"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// A Function is ready to serve: an http.Handler over checked settings.
type Function struct {
	log       *slog.Logger
	metrics   *prometheus.Registry
	engine    *events.Engine
	handler   *handler.Handler
	slack     *slack.App
	readiness *checks.Readiness
	ledger    *ledger.Ledger // nil where events are remembered in memory
	vault     *vault.Client  // nil where its settings are wrong
	debug     *http.Server   // listens once ListenDebug says so

	dependencies []checks.Checker // what readiness asks
}

// NewFunction returns the function of some settings with some features. It connects to
// nothing: the first readiness probe does. It logs JSON lines to logs, those of the
// standard logger included. If logs is a [logging.Writer], its dropped lines are a metric.
func NewFunction(settings Settings, logs io.Writer, features ...Feature) (*Function, error) {
	log := slog.New(logging.NewHandler(logs, settings.LogLevel)).
		With("app", settings.AppName, "environment", settings.Environment)
	adoptStandardLog(log)
	for _, name := range settings.Unknown {
		log.Warn("unknown setting", "variable", name)
	}
	warnOpen(settings, log)
	f := &Function{log: log, debug: newDebugServer(settings, log), metrics: prometheus.NewRegistry()}
	sender, err := newSender(settings.Sink, f.metrics)
	if err != nil {
		return nil, err
	}
	panicked := func() { f.engine.CountPanic() } // nothing is asked before there is an engine
	clients, err := newClients(settings, f.metrics, log, panicked)
	if err != nil {
		return nil, err
	}
	f.vault = clients.vault
	if f.ledger, err = newLedger(settings, clients.vault, sender, f.metrics, log, panicked); err != nil {
		return nil, err
	}
	if f.engine, err = events.New(events.Config{
		App:      settings.AppName,
		InFlight: settings.EventsInFlight,
		Timeout:  settings.EventTimeout,
		Sender:   sender,
		Ledger:   sharedLedger(f.ledger),
		Registry: f.metrics,
		Log:      log,
	}); err != nil {
		return nil, fmt.Errorf("build the events' engine: %w", err)
	}
	build := readBuild()
	if err := f.serveHTTP(settings, clients, build); err != nil {
		return nil, err
	}
	f.dependencies = append(clients.checkers(), ledgerChecker(f.ledger)...)
	for _, feature := range features {
		if err := feature(f.platform(clients)); err != nil {
			return nil, fmt.Errorf("register a feature: %w", err)
		}
	}
	f.readiness, err = checks.New(checks.Options{
		TTL:     settings.CheckTTL,
		Timeout: settings.CheckTimeout,
		Grace:   settings.ReadyGrace,
		Log:     log,
		OnReady: func() { f.handler.Reached(handler.Ready) },
		OnPanic: panicked,
	}, f.dependencies...)
	if err != nil {
		return nil, err
	}
	return f, f.register(logs, tokenExpiry(clients.vault), build.info(settings.AppName))
}

// serveHTTP makes the handler, and Slack's routes and commands on it.
func (f *Function) serveHTTP(settings Settings, clients clients, build build) error {
	var err error
	f.handler, err = handler.New(handler.Config{
		App:         settings.AppName,
		Environment: settings.Environment,
		Version:     build.version,
		Events:      f.engine,
		Echo:        settings.Echo,
		Started:     processStart(),
		Ready:       f.ready,
		MetricsPath: settings.MetricsPath,
		Registry:    f.metrics,
		Log:         f.log,
		EventsScope: settings.EventsScope,
		Authorize:   authorizer(settings, clients.introspection),
		Admit:       f.admit(settings),
	})
	if err != nil {
		return fmt.Errorf("build the handler: %w", err)
	}
	if f.slack, err = newSlack(f.engine, f.handler, settings, clients.vault, f.metrics); err != nil {
		return fmt.Errorf("add Slack: %w", err)
	}
	return nil
}

// platform returns what features get.
func (f *Function) platform(clients clients) Platform {
	return Platform{
		Events:   f.engine.Events,
		Slack:    f.slack,
		Vault:    clients.vault,
		Ory:      clients.ory,
		Outgoing: clients.outgoing,
		Ledger:   f.ledger,
		Log:      f.engine.Log(),
		Metrics:  f.metrics,
		Mount:    f.handler.Mount,
		AddCheck: func(c checks.Checker) { f.dependencies = append(f.dependencies, c) },
	}
}

// register registers the metrics that no package has registered by itself.
func (f *Function) register(logs io.Writer, all ...prometheus.Collector) error {
	all = append(all, goCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), f.readiness)
	if buffered, ok := logs.(*logging.Writer); ok {
		all = append(all, buffered.Dropped())
	}
	for _, c := range all {
		if err := f.metrics.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// ServeHTTP answers one request.
func (f *Function) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.handler.ServeHTTP(w, r) }

// Log returns the function's logger.
func (f *Function) Log() *slog.Logger { return f.log }

// Dependencies returns what readiness asks, for asking it once and apart from any probe.
func (f *Function) Dependencies() []checks.Checker { return f.dependencies }

// Metrics returns what the metrics path shows, for a host's own.
func (f *Function) Metrics() *prometheus.Registry { return f.metrics }

// Refused counts a response that the server sent by itself to what never became a request.
func (f *Function) Refused(status int) { f.handler.Refused(status) }

// Listening records, for the metrics, that the function's listener is bound.
func (f *Function) Listening() { f.handler.Reached(handler.Listening) }

// Drain makes every readiness answer from now on say draining.
func (f *Function) Drain() {
	f.readiness.Drain()
	f.handler.Drain()
}

// Wait returns when no work is in flight any more, or with an error that says what
// was cut off when ctx ends. Call it when no more requests come. Until it returns, and
// no longer, what holds it up can be looked at by [Function.ListenDebug].
func (f *Function) Wait(ctx context.Context) error {
	defer func() { _ = f.debug.Close() }()
	err := f.handler.Wait(ctx)
	if f.ledger != nil {
		if closeErr := f.ledger.Close(ctx); closeErr != nil {
			f.log.Warn("the ledger could not be closed", "reason", closeErr.Error())
		}
	}
	f.vault.Close(ctx)
	return err
}

// ready adapts the verdict of package checks to the handler's Readiness.
func (f *Function) ready(ctx context.Context) handler.Readiness {
	v := f.readiness.Verdict(ctx)
	return handler.Readiness{Ready: v.Ready(), Retry: v.Retry(), JSON: v.JSON()}
}

// goCollector leaves out the client library's go_memstats_*: with go_memstats_alloc_bytes, a gauge, and its _total, a counter of
// the same family, strict OpenMetrics parsers refuse the scrape. A few runtime metrics take their place.
func goCollector() prometheus.Collector {
	return collectors.NewGoCollector(
		collectors.WithGoCollectorMemStatsMetricsDisabled(),
		collectors.WithGoCollectorRuntimeMetrics(
			collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(
				`^/(gc/heap/allocs:bytes|gc/heap/allocs:objects|memory/classes/heap/(objects|unused):bytes|memory/classes/total:bytes)$`)},
		),
	)
}

// A build says which code runs.
type build struct{ version, commit string }

// readBuild returns what the Go command recorded.
func readBuild() build {
	b := build{version: "unknown", commit: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" {
		b.version = v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.commit = s.Value
		}
	}
	return b
}

func (b build) info(app string) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "coffeebuddy_build_info",
		Help: "Always 1; the labels describe the running build.",
		ConstLabels: prometheus.Labels{
			"app": app, "version": b.version, "commit": b.commit, "goversion": runtime.Version(),
		},
	})
	info.Set(1)
	return info
}
