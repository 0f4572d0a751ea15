// Command promhttp shows with promhttp, and nothing around it, what the function shows: the function's own collectors, registered as it
// does, so that both show the same series. The function's handler answers the other routes.
package main

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/ory"
	"coffeebuddy/slack"
	"coffeebuddy/test/bench/internal/served"
	"coffeebuddy/vault"
)

func main() {
	oryClient, err := ory.New(ory.Config{BaseURL: os.Getenv("ORY_BASE_URL")})
	if err != nil {
		served.Exit(err)
	}
	vaultClient, err := vault.New(vault.Config{Address: os.Getenv("VAULT_ADDR"), Token: vault.FixedToken(os.Getenv("VAULT_TOKEN"))})
	if err != nil {
		served.Exit(err)
	}
	readiness, err := checks.New(checks.Options{TTL: time.Second, Timeout: 2 * time.Second},
		checks.NewOry(oryClient, nil), checks.NewVault(vaultClient))
	if err != nil {
		served.Exit(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector( // as the function's
			collectors.WithGoCollectorMemStatsMetricsDisabled(),
			collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(
				`^/(gc/heap/allocs:bytes|gc/heap/allocs:objects|memory/classes/heap/(objects|unused):bytes|memory/classes/total:bytes)$`)}),
		),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coffeebuddy_build_info", Help: "Always 1; its labels say which build runs.",
			ConstLabels: prometheus.Labels{"app": "coffeebuddy", "version": "unknown", "commit": "unknown", "goversion": "go"},
		}),
		readiness,
		prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coffeebuddy_vault_token_expiry_timestamp_seconds",
			Help: "When the Vault token expires, as of its last lookup or renewal; 0 for never, and before the first.",
		}),
	)
	// For the collectors that it registers, and so that these can be given something to show; metrics are not asked of it.
	engine, err := events.New(events.Config{Registry: registry})
	if err != nil {
		served.Exit(err)
	}
	h, err := handler.New(handler.Config{
		App: "coffeebuddy", Environment: "dev", Version: "bench", Started: time.Now(),
		Ready: func(ctx context.Context) handler.Readiness {
			v := readiness.Verdict(ctx)
			return handler.Readiness{Ready: v.Ready(), Retry: v.Retry(), JSON: v.JSON()}
		},
		Events: engine, Echo: true, Registry: registry,
	})
	if err != nil {
		served.Exit(err)
	}
	if _, err := slack.New(engine.Events, slack.Config{Registry: registry}); err != nil {
		served.Exit(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	served.Run(mux)
}
