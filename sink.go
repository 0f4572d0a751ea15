package coffeebuddy

import (
	"coffeebuddy/events"
	"coffeebuddy/events/sink"

	"github.com/prometheus/client_golang/prometheus"
)

// newSender returns what sends events to the sink, nil where none is configured.
func newSender(s SinkSettings, registry prometheus.Registerer) (events.Sender, error) {
	if s.URL == "" {
		return nil, nil //nolint:nilnil // none
	}
	return sink.New(sink.Config{URL: s.URL, Overrides: s.Overrides, CACerts: s.CACerts, Registry: registry})
}
