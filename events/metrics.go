package events

import (
	"context"
	"log/slog"

	"coffeebuddy/internal/single"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the engine's own. No label takes a value that a caller can choose.
type metrics struct {
	panics prometheus.Counter
	events map[Outcome]prometheus.Counter
	tasks  map[taskOutcome]prometheus.Counter
}

func newMetrics(registry prometheus.Registerer, inFlight func() float64) (*metrics, error) {
	m := &metrics{
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coffeebuddy_http_panics_total",
			Help: "Recovered panics of handlers, receivers and background tasks.",
		}),
		events: make(map[Outcome]prometheus.Counter),
		tasks:  make(map[taskOutcome]prometheus.Counter),
	}
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "coffeebuddy_events_total",
		Help: "Events received, by outcome.",
	}, []string{"outcome"})
	for _, o := range outcomes() {
		m.events[o] = events.WithLabelValues(string(o))
	}
	tasks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "coffeebuddy_background_tasks_total",
		Help: "Tasks that continued after their response, by outcome.",
	}, []string{"outcome"})
	for _, o := range []taskOutcome{taskDone, taskFailed, taskCutOff} {
		m.tasks[o] = tasks.WithLabelValues(string(o))
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.panics, events, tasks,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "coffeebuddy_events_in_flight",
			Help: "Events in flight, including those whose receiver is still running after its deadline.",
		}, inFlight),
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// panicked is [Engine.Panicked].
func (e *Events) panicked(ctx context.Context, p any) {
	e.metrics.panics.Inc()
	e.logger.LogAttrs(ctx, slog.LevelError, "a handler panicked", single.Panic(p)...)
}
