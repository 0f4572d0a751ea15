// Package events is what features see of the function: who receives an event, what became
// of it, and work that goes on after the response. It knows no HTTP: the package handler
// brings it events from POST /, the package slack those from Slack.
//
// A feature registers a [Receiver] for a type of event with [Events.On]. What the receiver
// returns decides the [Outcome], and with it whether the sender tries again; see [Permanent]
// and [RetryAfter]. [Deduplicate] makes a receiver idempotent. A feature continues after
// the response with [Events.Go], sends events to the sink with [Events.Send], and hands over
// events that it gets in another way with [Events.Dispatch].
//
// The host makes an [Engine], which can do more than a feature may.
package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what an Engine is made of. The zero Config is valid.
type Config struct {
	App      string        // the function's name; events without a source get //coffeebuddy/<App>. "" stands for coffeebuddy
	InFlight int           // concurrency limit: receivers at a time, in each Limit. 0 stands for 32
	Timeout  time.Duration // deadline of one receiver. 0 stands for 10 s
	Sender   Sender        // what Send sends with. Nil: Send returns ErrNoSink
	Ledger   Ledger        // remembers events for receivers that deduplicate. Nil: a Memory, of this process alone

	Registry prometheus.Registerer // where the metrics are registered. Nil: nowhere
	Log      *slog.Logger          // nil discards
}

// Events is what a feature may do with events. Register receivers before the function serves;
// everything else may be called at any time, from any goroutine.
type Events struct {
	config    Config
	source    types.URIRef // of replies that name none
	logger    *slog.Logger // config.Log with the correlation of its lines' contexts
	metrics   *metrics
	receivers map[string]*registration // by type

	limit    *Limit   // of Enter
	limits   []*Limit // all of them
	ledger   Ledger
	shared   bool // the ledger is the host's, and its records outlive the process
	tasks    tasks
	alarms   sync.Pool   // of *alarm
	accepted atomic.Bool // an event was
	onFirst  func()      // is called when the first event is accepted
}

// An Engine is Events with what only the host of the function may do.
type Engine struct {
	*Events

	closing sync.Mutex
}

// New returns an Engine without receivers.
func New(config Config) (*Engine, error) {
	if config.App == "" {
		config.App = "coffeebuddy"
	}
	if config.InFlight == 0 {
		config.InFlight = 32
	}
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case config.InFlight < 0:
		return nil, errors.New("make the events' engine: InFlight is negative")
	case config.Timeout < 0:
		return nil, errors.New("make the events' engine: Timeout is negative")
	}
	e := &Events{
		config:    config,
		source:    *types.ParseURIRef("//coffeebuddy/" + url.PathEscape(config.App)),
		logger:    slog.New(correlated{config.Log.Handler()}),
		receivers: make(map[string]*registration),
		ledger:    config.Ledger,
		shared:    config.Ledger != nil,
		tasks:     tasks{running: make(map[*task]bool)},
		onFirst:   func() {},
	}
	if !e.shared {
		e.ledger = NewMemory()
	}
	e.limit = e.NewLimit()
	var err error
	if e.metrics, err = newMetrics(config.Registry, e.inFlight); err != nil {
		return nil, fmt.Errorf("register the events' metrics: %w", err)
	}
	return &Engine{Events: e}, nil
}

// Log returns the logger for features. A line that is logged with the context of a
// receiver, a task or a mounted request has its request_id and trace_id.
func (e *Events) Log() *slog.Logger { return e.logger }

// OnFirstAccepted has f called when the first event is accepted. Call it before the function
// serves.
func (e *Engine) OnFirstAccepted(f func()) { e.onFirst = f }

// Count counts an event that was refused before it could be delivered.
func (e *Engine) Count(outcome Outcome) { e.count(outcome) }

// CountPanic counts a panic that was recovered from and logged elsewhere.
func (e *Engine) CountPanic() { e.metrics.panics.Inc() }

// Panicked counts and logs a panic that was recovered from, with its stack. Call it in the
// deferred function that recovered. The panic's own text is logged only if it is the
// runtime's: any other may hold what was being handled.
func (e *Engine) Panicked(ctx context.Context, p any) { e.panicked(ctx, p) }

// count records an event's outcome.
func (e *Events) count(outcome Outcome) {
	e.metrics.events[outcome].Inc()
	if outcome == Accepted && !e.accepted.Load() && e.accepted.CompareAndSwap(false, true) {
		e.onFirst()
	}
}

// A Sender sends one valid event out of the function, and returns when it was taken.
type Sender interface {
	Send(ctx context.Context, e event.Event) error
}

// ErrNoSink is the error of [Events.Send] where no sink is configured.
var ErrNoSink = errors.New("no sink is configured to send events to: K_SINK is not set")

// HasSink reports whether there is a sink to send events to.
func (e *Events) HasSink() bool { return e.config.Sender != nil }

// senderKey is the context key of a Sender that stands in for the sink.
type senderKey struct{}

// WithSender returns a context whose events are sent by s instead of the sink: by a ledger, into
// the outbox of its transaction. It holds for the receiver alone: a task that it starts, and an
// event that it dispatches, are not undone with the transaction, so they do not see it.
func WithSender(ctx context.Context, s Sender) context.Context {
	return context.WithValue(ctx, senderKey{}, s)
}

// SenderOf returns the Sender that stands in for the sink, nil for none.
func SenderOf(ctx context.Context) Sender {
	s, _ := ctx.Value(senderKey{}).(Sender)
	return s
}

// Send sends an event to the sink and returns once the sink has taken it. With the context of a
// [Transactional] receiver it is sent once the transaction is committed. An event without an
// id, a source or a time is given one, and the trace of ctx. An event that no receiver would
// accept is an error, and is not sent.
func (e *Events) Send(ctx context.Context, out event.Event) error {
	sender := SenderOf(ctx)
	if sender == nil {
		sender = e.config.Sender
	}
	if sender == nil {
		return ErrNoSink
	}
	var trace string
	if c := CorrelationOf(ctx); c != nil {
		trace = c.Traceparent
	}
	out, err := e.complete(out, trace)
	if err != nil {
		return fmt.Errorf("send an event: %w", err)
	}
	return sender.Send(ctx, out)
}
