package sink

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are there only where there is a sink.
type metrics struct {
	sent, refused, failed prometheus.Counter
	duration              prometheus.Histogram
	inFlight              prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "coffeebuddy_sink_events_total",
		Help: "Events sent to the sink, by outcome: accepted by it, refused for good, or not accepted in time.",
	}, []string{"outcome"})
	m := &metrics{
		sent:    sent.WithLabelValues("sent"),
		refused: sent.WithLabelValues("refused"),
		failed:  sent.WithLabelValues("failed"),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "coffeebuddy_sink_duration_seconds",
			Help:    "How long it took to send an event to the sink, retries included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},

			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coffeebuddy_sink_events_in_flight",
			Help: "Events that are being sent to the sink.",
		}),
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{sent, m.duration, m.inFlight} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
