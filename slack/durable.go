package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
)

// An Option is about one receiver; see [App.Command], [App.Interaction] and [App.Event].
type Option func(*options) error

type options struct{ durable bool }

// Durable makes what a receiver is registered for outlive the pod. The request is verified,
// becomes its event, and is handed to the sink; Slack is told 200 once the sink has accepted
// it, and not before. The broker delivers the event to POST /, and so to the receiver, as
// often as it takes. The receiver's reply is posted to the request's response_url.
//
// The receiver must be idempotent: a broker may deliver an event twice, and does after a
// failure. What the sink does not accept in time is not received: the user is asked to try
// again, and Slack sends an event again.
//
// A request of over 1 MiB is too large for POST /. It is received in this pod, and Slack is told
// 200 only if the receiver is done within 2.75 s.
//
// Without a sink it is an error; see [App.HasSink]. So it is for an interaction whose
// response is the reply, such as view_submission.
func Durable() Option { return func(o *options) error { o.durable = true; return nil } }

// HasSink reports whether receivers can be durable: there is a sink to hand events to, and a
// secret to sign them with.
func (a *App) HasSink() bool { return a.events.HasSink() && a.secrets != nil }

// apply returns what options say.
func (a *App) apply(given []Option) (options, error) {
	var o options
	for _, option := range given {
		if err := option(&o); err != nil {
			return options{}, err
		}
	}
	switch {
	case o.durable && !a.events.HasSink():
		return options{}, fmt.Errorf("durable: %w", events.ErrNoSink)
	case o.durable && a.secrets == nil:
		return options{}, errors.New("durable: Slack's signing secret is not configured")
	}
	return o, nil
}

// Interaction registers the receiver of interactions of a type, such as "block_actions". Their
// events are of the type com.slack.interaction.block_actions; the data is Slack's payload. Call
// it before the function serves.
func (a *App) Interaction(interactionType string, receiver events.Receiver, given ...Option) error {
	err := a.on(interactionPrefix, interactionType, receiver, given)
	if err != nil {
		return fmt.Errorf("register interactions %q: %w", interactionType, err)
	}
	return nil
}

// Event registers the receiver of events of the Events API, such as "app_mention". Their events
// are of the type com.slack.event.app_mention; the data is Slack's envelope. Call it before the
// function serves.
func (a *App) Event(eventType string, receiver events.Receiver, given ...Option) error {
	err := a.on(eventPrefix, eventType, receiver, given)
	if err != nil {
		return fmt.Errorf("register events %q: %w", eventType, err)
	}
	return nil
}

func (a *App) on(prefix, name string, receiver events.Receiver, given []Option) error {
	o, err := a.apply(given)
	switch {
	case err != nil:
		return err
	case receiver == nil:
		return errors.New("the receiver is nil")
	case !isWord(name):
		return errors.New("it is no type of Slack's")
	case o.durable && prefix == interactionPrefix && expectationsOf(name).inAnswer:
		return errors.New("durable: Slack takes the reply as the response, so that it cannot come later")
	case !o.durable:
		return a.events.On(prefix+name, a.delivered(receiver))
	}
	a.durable[prefix+name] = true
	return a.events.On(prefix+name, a.delivered(receiver), events.Deduplicate(trustAge))
}

// handOff sends an event to the sink, and answers when the sink has accepted it.
func (a *App) handOff(ctx context.Context, d *delivery, by time.Time) answer {
	secret, version, ok := a.secrets.signer()
	if !ok {
		return unverified(errNoSecret)
	}
	out, err := sealed(d.event, secret, version, time.Now())
	if err == nil {
		sending, cancel := context.WithDeadline(context.WithoutCancel(ctx), by)
		defer cancel()
		err = a.events.Send(sending, out)
	}
	if err == nil {
		return answer{outcome: accepted, status: http.StatusOK}
	}
	a.events.Log().LogAttrs(ctx, slog.LevelWarn, "the sink did not accept an event of Slack's",
		slog.String("kind", string(d.kind)), slog.String("why", err.Error()))
	failed := events.Verdict{Outcome: events.Retry, RetryAfter: time.Second}
	switch {
	case d.kind == command:
		return answer{outcome: unavailable, status: http.StatusOK, message: d.apology(failed)}
	case d.responseURL != "": // a click that fails shows no text by itself
		a.postLater(ctx, d, d.apology(failed))
	}
	return answer{outcome: unavailable, status: http.StatusServiceUnavailable, word: string(failed.Outcome), retryAfter: failed.RetryAfter}
}

// Admit returns nil for an event that this function has verified at one of Slack's routes and
// handed to the sink, at most a day ago. It is for POST /, where anybody may send. Any other
// event is a permanent error; where its signature cannot be checked now, the error asks for it
// again.
func (a *App) Admit(ctx context.Context, e event.Event) error {
	s, ok := sealOf(e, time.Now())
	if !ok || a.secrets == nil {
		return events.Permanent(errUntrusted)
	}
	secret, err := a.secrets.version(ctx, s.version)
	switch {
	case errors.Is(err, errNoSecret):
		return events.RetryAfter(retryPause, fmt.Errorf("verify an event's signature: %w", err))
	case err != nil, !s.by(e, secret):
		return events.Permanent(errUntrusted)
	}
	return nil
}

// delivered is a receiver that posts the reply to an event from the sink. The broker would
// make an event of it, and the user would never see it.
func (a *App) delivered(receive events.Receiver) events.Receiver {
	return func(ctx context.Context, e event.Event) (*event.Event, error) {
		reply, err := receive(ctx, e)
		if _, fromSink := e.Extensions()[signatureExtension]; !fromSink {
			return reply, err
		}
		d := deliveryOf(e)
		if d.responseURL == "" {
			return nil, err
		}
		if err != nil {
			// Only what is final is told: the broker delivers the event again after any other error.
			if v := events.Refusal(ctx, err); v.Outcome == events.Rejected {
				_ = a.post(ctx, d.responseURL, d.apology(v))
			}
			return nil, err
		}
		message, err := messageOf(reply)
		if err == nil && message.body != nil {
			_ = a.post(ctx, d.responseURL, message) // it is logged; the work is done, and must not run again for it
		}
		return nil, err
	}
}

// deliveryOf returns what is known of the request that an event was made from.
func deliveryOf(e event.Event) *delivery {
	d := &delivery{kind: interaction}
	data, err := objectOf(e.Data())
	switch {
	case err != nil, strings.HasPrefix(e.Type(), eventPrefix):
		d.kind = deliveredEvent
	case e.Type() == commandType:
		d.kind, d.responseURL = command, data.text("response_url")
	default:
		d.responseURL = responseURLOf(data)
	}
	return d
}
