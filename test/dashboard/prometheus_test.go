package main

import (
	"errors"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"coffeebuddy/test/dashboard/live"
	"coffeebuddy/test/dashboard/published"
	"coffeebuddy/test/devstack"

	"github.com/matryer/is"
	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"
)

// TestEveryQueryFindsData runs the function with every kind of traffic and outage, and asks a real Prometheus each query of
// the dashboard as published: with nothing chosen, which is All, and with every value chosen that a variable has.
func TestEveryQueryFindsData(t *testing.T) {
	if testing.Short() {
		t.Skip("it needs real servers and more than a minute")
	}
	is := is.New(t)
	stranger := httptest.NewServer(promhttp.Handler()) // another Go program in the same namespace
	defer stranger.Close()
	run, err := live.Play(t.Context(), t.TempDir(), time.Minute, t.Output(), devstack.Pod{
		Target: strings.TrimPrefix(stranger.URL, "http://"), Labels: map[string]string{"namespace": "coffeebuddy", "pod": "stranger"},
	})
	if errors.Is(err, devstack.ErrNoPrometheus) || errors.Is(err, devstack.ErrNoPostgres) {
		t.Skip(err)
	}
	is.NoErr(err)
	client, err := api.NewClient(api.Config{Address: run.Prometheus})
	is.NoErr(err)
	server := prometheus.NewAPI(client)
	d, err := published.Read(file)
	is.NoErr(err)

	all := published.View{From: run.From, To: run.To, Step: live.ScrapeInterval, Scrape: live.ScrapeInterval}
	chosen := all
	chosen.Chosen = make(map[string][]string)
	for _, variable := range d.Templating.List {
		if variable.Type != "query" {
			continue
		}
		values, err := d.Values(t.Context(), server, variable, chosen)
		is.NoErr(err)
		if len(values) == 0 {
			t.Errorf("variable %s has no value to choose", variable.Name)
		}
		if slices.Contains(values, "stranger") {
			t.Errorf("variable %s offers another program", variable.Name)
		}
		chosen.Chosen[variable.Name] = values
	}
	is.Equal(len(chosen.Chosen["revision"]), 2)
	is.Equal(len(chosen.Chosen["pod"]), 3)

	for name, view := range map[string]published.View{"all": all, "chosen": chosen} {
		t.Run(name, func(t *testing.T) {
			for _, panel := range d.Panels {
				for _, target := range panel.Targets {
					found, err := d.Ask(t.Context(), server, panel, target, view)
					switch {
					case err != nil:
						t.Errorf("panel %q: %v", panel.Title, err)
					case len(found) == 0:
						t.Errorf("panel %q: %s finds nothing", panel.Title, target.Expr)
					case !numbers(found):
						t.Errorf("panel %q: %s finds no number", panel.Title, target.Expr)
					}
					for _, series := range found {
						if series.Metric["pod"] == "stranger" {
							t.Errorf("panel %q: %s shows another program", panel.Title, target.Expr)
						}
					}
				}
			}
		})
	}
	t.Run("every metric of the function has a panel", func(t *testing.T) {
		names, _, _, err := server.LabelValues(t.Context(), model.MetricNameLabel, nil, run.From, run.To)
		is.New(t).NoErr(err)
		for _, name := range names {
			if strings.HasPrefix(string(name), "coffeebuddy_") && !shows(d, string(name)) {
				t.Errorf("no panel shows %s", name)
			}
		}
	})
	t.Run("something happens in every panel", func(t *testing.T) {
		still := quiet()
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				found, err := d.Ask(t.Context(), server, panel, target, all)
				if err == nil && !still[panel.Title+"/"+target.LegendFormat] && !moves(found) {
					t.Errorf("panel %q: %s is 0 all the time", panel.Title, target.Expr)
				}
			}
		}
	})
	t.Run("with no pod, no panel shows a number", func(t *testing.T) {
		before := published.View{From: run.From.Add(-2 * time.Hour), To: run.From.Add(-time.Hour), Step: time.Minute, Scrape: live.ScrapeInterval}
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				found, err := d.Ask(t.Context(), server, panel, target, before)
				if err != nil || len(found) != 0 {
					t.Errorf("panel %q: %s finds %d series (%v)", panel.Title, target.Expr, len(found), err)
				}
			}
		}
	})
}

// shows reports whether a query of a panel has a metric, as it is or as a histogram's.
func shows(d *published.Dashboard, metric string) bool {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		metric = strings.TrimSuffix(metric, suffix)
	}
	return slices.ContainsFunc(d.Panels, func(p published.Panel) bool {
		return slices.ContainsFunc(p.Targets, func(t published.Target) bool {
			return strings.Contains(t.Expr, metric+"{") || strings.Contains(t.Expr, metric+"_bucket{")
		})
	})
}

// quiet are the queries that may stay at 0: no probe should be slow, and what a shutdown cuts off at its very end no scrape
// sees any more. Neither should there be too many connections or lines.
func quiet() map[string]bool {
	return map[string]bool{
		"Probes too slow for Knative/{{route}}": true, "Restarts, panics, work cut off/tasks cut off": true,
		"Connections closed for others, log lines dropped/connections closed": true, "Connections closed for others, log lines dropped/log lines dropped": true,
	}
}

// numbers reports whether there is a value that is one.
func numbers(found model.Matrix) bool {
	return slices.ContainsFunc(values(found), func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) })
}

// moves reports whether there is a value other than 0.
func moves(found model.Matrix) bool {
	return slices.ContainsFunc(values(found), func(v float64) bool { return v != 0 && !math.IsNaN(v) })
}

func values(found model.Matrix) []float64 {
	var all []float64
	for _, series := range found {
		for _, sample := range series.Values {
			all = append(all, float64(sample.Value))
		}
	}
	return all
}
