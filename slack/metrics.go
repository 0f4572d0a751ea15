package slack

import "github.com/prometheus/client_golang/prometheus"

// A kind is the kind of a request, used as a label.
type kind string

const (
	command        kind = "command"
	interaction    kind = "interaction"
	deliveredEvent kind = "event"
	unknown        kind = "unknown" // none of these: Slack tests the route
)

// An outcome is the result of a request, used as a label.
type outcome string

const (
	accepted        outcome = "accepted"
	acknowledgedFor outcome = "acknowledged_for" // the receiver is still running
	duplicate       outcome = "duplicate"
	unsigned        outcome = "unsigned"
	rejected        outcome = "rejected"    // malformed, refused for good, or without a registered receiver
	unavailable     outcome = "unavailable" // overloaded, no secret, or the receiver failed
)

// requests counts Slack's requests.
type requests struct {
	vec  *prometheus.CounterVec
	each map[kind]map[outcome]prometheus.Counter
}

// newRequests returns counters with every series at 0.
func newRequests() requests {
	r := requests{
		vec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coffeebuddy_slack_requests_total",
			Help: "Requests to the Slack endpoints, by kind and outcome.",
		}, []string{"kind", "outcome"}),
		each: make(map[kind]map[outcome]prometheus.Counter),
	}
	for _, k := range []kind{command, interaction, deliveredEvent, unknown} {
		r.each[k] = make(map[outcome]prometheus.Counter)
		for _, o := range []outcome{accepted, acknowledgedFor, duplicate, unsigned, rejected, unavailable} {
			r.each[k][o] = r.vec.WithLabelValues(string(k), string(o))
		}
	}
	return r
}
