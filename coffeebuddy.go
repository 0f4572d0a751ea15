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
	"coffeebuddy/logging"
	"coffeebuddy/ory"
	"coffeebuddy/slack"
	"coffeebuddy/vault"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// A Function is ready to serve: an http.Handler over checked settings.
type Function struct {
	log       *slog.Logger
	handler   *handler.Handler
	readiness *checks.Readiness
	debug     *http.Server // listens once ListenDebug says so
	metrics   *prometheus.Registry
	vault     *vault.Client // nil where its settings are wrong
	outgoing  *ory.Outgoing // nil where there are no settings for it

	dependencies []checks.Checker // what readiness asks
}

// NewFunction returns the function of some settings. It connects to nothing: the
// first readiness probe does. It logs JSON lines to logs, those of the standard
// logger included. If logs is a [logging.Writer], its dropped lines are a metric.
func NewFunction(settings Settings, logs io.Writer) (*Function, error) {
	log := slog.New(logging.NewHandler(logs, settings.LogLevel)).
		With("app", settings.AppName, "environment", settings.Environment)
	adoptStandardLog(log)
	for _, name := range settings.Unknown {
		log.Warn("unknown setting", "variable", name)
	}

	f := &Function{log: log, debug: newDebugServer(settings, log)}
	var engine *events.Engine
	panicked := func() { engine.CountPanic() } // nothing is asked before there is an engine
	registry := prometheus.NewRegistry()
	secrets, err := newVault(settings.Vault, registry, log, panicked)
	if err != nil {
		return nil, err
	}
	if f.outgoing, err = newOutgoing(settings.OAuth, secrets, log, panicked); err != nil {
		return nil, err
	}
	introspection, err := newIntrospection(settings, log, panicked)
	if err != nil {
		return nil, err
	}
	oryCheck, err := oryChecker(settings.Ory, introspection, log)
	if err != nil {
		return nil, err
	}
	f.dependencies = []checks.Checker{oryCheck, vaultChecker(secrets)}
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

	build := readBuild()
	f.metrics, f.vault = registry, secrets
	if buffered, ok := logs.(*logging.Writer); ok {
		if err := registry.Register(buffered.Dropped()); err != nil {
			return nil, fmt.Errorf("register the log's metrics: %w", err)
		}
	}
	for _, c := range []prometheus.Collector{
		goCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build.info(settings.AppName),
		f.readiness,
		tokenExpiry(secrets),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	sender, err := newSender(settings.Sink, registry)
	if err != nil {
		return nil, err
	}
	engine, err = events.New(events.Config{
		App:      settings.AppName,
		InFlight: settings.EventsInFlight,
		Timeout:  settings.EventTimeout,
		Sender:   sender,
		Registry: registry,
		Log:      log,
	})
	if err != nil {
		return nil, fmt.Errorf("build the events' engine: %w", err)
	}
	var app *slack.App
	var admit func(context.Context, event.Event) error
	if settings.Slack.Secret != nil {
		admit = func(ctx context.Context, e event.Event) error { return app.Admit(ctx, e) }
	}
	f.handler, err = handler.New(handler.Config{
		App:         settings.AppName,
		Environment: settings.Environment,
		Version:     build.version,
		Events:      engine,
		Echo:        settings.Echo,
		Started:     processStart(),
		Ready:       f.ready,
		MetricsPath: settings.MetricsPath,
		Registry:    registry,
		Log:         log,
		EventsScope: settings.EventsScope,
		Authorize:   authorizer(settings, introspection),
		Admit:       admit,
	})
	if err != nil {
		return nil, fmt.Errorf("build the handler: %w", err)
	}
	if app, err = addSlack(engine.Events, f.handler, settings, secrets, registry, panicked); err != nil {
		return nil, fmt.Errorf("add Slack: %w", err)
	}
	return f, nil
}

// ServeHTTP answers one request.
func (f *Function) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.handler.ServeHTTP(w, r) }

// Log returns the function's logger.
func (f *Function) Log() *slog.Logger { return f.log }

// Dependencies returns what readiness asks, for asking it once and apart from any probe.
func (f *Function) Dependencies() []checks.Checker { return f.dependencies }

// Metrics returns what the metrics path shows, for a host's own.
func (f *Function) Metrics() *prometheus.Registry { return f.metrics }

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
	f.vault.Close(ctx)
	return err
}

// ready is where checks and handler meet.
func (f *Function) ready(ctx context.Context) handler.Readiness {
	v := f.readiness.Verdict(ctx)
	return handler.Readiness{Ready: v.Ready(), Retry: v.Retry(), JSON: v.JSON()}
}

// newVault returns the client of Vault, nil where its settings are wrong.
func newVault(s VaultSettings, registry prometheus.Registerer, log *slog.Logger, panicked func()) (*vault.Client, error) {
	if warn(log, "vault", s.Wrong) {
		return nil, nil //nolint:nilnil // none
	}
	config := vault.Config{Address: s.Address, Namespace: s.Namespace, CACert: s.CACert, Registry: registry, Log: log, OnPanic: panicked}
	switch {
	case s.Role != "":
		config.Login = vault.Login{Role: s.Role, Mount: s.AuthMount, JWTFile: s.JWTFile}
	case s.TokenFile != "":
		config.Token = vault.TokenFile(s.TokenFile)
	default:
		config.Token = vault.FixedToken(s.Token.Reveal())
	}
	return vault.New(config)
}

func vaultChecker(client *vault.Client) checks.Checker {
	if client == nil {
		return checks.Misconfigured("vault")
	}
	return checks.NewVault(client)
}

// tokenExpiry shows when Vault's token expires, and 0 where there is none to know of.
func tokenExpiry(client *vault.Client) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coffeebuddy_vault_token_expiry_timestamp_seconds",
		Help: "When the Vault token expires, as of its last lookup or renewal; 0 for never, and before the first.",
	}, func() float64 {
		if client.TokenExpiry().IsZero() {
			return 0
		}
		return float64(client.TokenExpiry().Unix())
	})
}

func oryChecker(s OrySettings, introspection *ory.Introspection, log *slog.Logger) (checks.Checker, error) {
	if warn(log, "ory", s.Wrong) {
		return checks.Misconfigured("ory"), nil
	}
	client, err := ory.New(ory.Config{BaseURL: s.BaseURL})
	if err != nil {
		return nil, err
	}
	return checks.NewOry(client, introspection), nil
}

// warn logs what is wrong with a dependency's settings, and reports whether any is.
func warn(log *slog.Logger, dependency string, wrong []Problem) bool {
	for _, p := range wrong {
		log.Warn("dependency is misconfigured", "dependency", dependency,
			"reason", string(checks.ReasonMisconfigured), "variable", p.Variable, "why", p.Why)
	}
	return len(wrong) > 0
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
