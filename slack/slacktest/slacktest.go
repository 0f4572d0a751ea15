// Package slacktest tests features that use Slack: it is a fake Slack in front of the real handler.
// It signs requests as Slack does and records posts to their response URLs, without a network.
//
//	s := slacktest.New(t, func(_ *events.Events, app *slack.App) error {
//		return app.Command("/coffee order", order)
//	})
//	a := s.Command("/coffee order espresso")
//	is.Equal(a.Status, 200)
//
// In a testing/synctest bubble, a receiver that takes minutes costs no real time.
//
// It is not a client for Slack's API, and only tests import it.
package slacktest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/features/ping"
	"coffeebuddy/handler"
	"coffeebuddy/handler/handlertest"
	"coffeebuddy/slack"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/prometheus/client_golang/prometheus"
)

// Secret is the signing secret that a Slack uses.
const Secret = "0123456789abcdef0123456789abcdef"

// hooks is where response URLs point.
const hooks = "https://hooks.slack.com"

// A Slack is a workspace with the function as its one app. Its fields may be changed
// between requests.
type Slack struct {
	*handlertest.Function

	App      *slack.App
	Registry *prometheus.Registry // has coffeebuddy_slack_requests_total

	// Hook handles posts to a response_url. Nil responds with 200. Posts records the body in either
	// case.
	Hook http.Handler

	// Sink receives the events sent to the sink, if there is one. Nil accepts them. Sent records
	// the event in either case; to deliver it to POST /, as a broker does, a test calls Deliver.
	Sink func(context.Context, event.Event) error

	mu    sync.Mutex
	posts []string
	sent  []event.Event
}

// New returns a Slack whose app has the given features as well as /coffee ping and /coffee echo.
// Its configuration differs from production only in the secret and the transport to response URLs.
func New(t testing.TB, features ...func(*events.Events, *slack.App) error) *Slack {
	t.Helper()
	return NewWith(t, func(*slack.Config) {}, features...)
}

// NewWith is like New, with a changed configuration.
func NewWith(t testing.TB, change func(*slack.Config), features ...func(*events.Events, *slack.App) error) *Slack {
	t.Helper()
	return build(t, false, change, features)
}

// NewWithSink is like NewWith for an app with a sink, so that receivers can be durable.
func NewWithSink(t testing.TB, change func(*slack.Config), features ...func(*events.Events, *slack.App) error) *Slack {
	t.Helper()
	return build(t, true, change, features)
}

func build(t testing.TB, hasSink bool, change func(*slack.Config), features []func(*events.Events, *slack.App) error) *Slack {
	t.Helper()
	s := &Slack{Registry: prometheus.NewRegistry()}
	config := slack.Config{
		Secret:    func(context.Context, int) (string, int, error) { return Secret, 1, nil },
		AckAfter:  1800 * time.Millisecond,
		Timeout:   time.Minute,
		Registry:  s.Registry,
		Transport: s,
	}
	change(&config)
	s.Function = handlertest.NewWith(t, func(e *events.Config, h *handler.Config) {
		if hasSink {
			e.Sender = sink{s}
		}
		if config.Secret != nil {
			h.Admit = func(ctx context.Context, in event.Event) error { return s.App.Admit(ctx, in) }
		}
	})
	config.Mount = s.Mount
	var err error
	if s.App, err = slack.New(s.Events.Events, config); err != nil {
		t.Fatal(err)
	}
	if err := ping.Register(s.App); err != nil {
		t.Fatal(err)
	}
	for _, register := range features {
		if err := register(s.Events.Events, s.App); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// An Answer is the response that Slack got.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Send sends a request, which need not be signed.
func (s *Slack) Send(r *http.Request) Answer {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return Answer{w.Code, w.Header(), w.Body.String()}
}

// Command sends a slash command, such as "/coffee ping".
func (s *Slack) Command(typed string) Answer { return s.Send(Command(Secret, typed)) }

// Interact sends an interaction with a JSON payload.
func (s *Slack) Interact(payload string) Answer { return s.Send(Interaction(Secret, payload)) }

// Event delivers an Events API event once, given the JSON of its inner event.
func (s *Slack) Event(id, inner string) Answer { return s.Send(Event(Secret, id, inner)) }

// Sent returns the events sent to the sink so far, in order.
func (s *Slack) Sent() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Event(nil), s.sent...)
}

// A sink records events, and passes them to Slack.Sink.
type sink struct{ slack *Slack }

func (to sink) Send(ctx context.Context, e event.Event) error {
	s := to.slack
	s.mu.Lock()
	s.sent = append(s.sent, e)
	s.mu.Unlock()
	if s.Sink == nil {
		return nil
	}
	return s.Sink(ctx, e)
}

// Posts returns the bodies posted to response URLs so far, in order.
func (s *Slack) Posts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.posts...)
}

// RoundTrip implements http.RoundTripper in place of the network to response URLs.
func (s *Slack) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.posts = append(s.posts, string(body))
	s.mu.Unlock()
	w := httptest.NewRecorder()
	if s.Hook != nil {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		s.Hook.ServeHTTP(w, r)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}
