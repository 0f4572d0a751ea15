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
	"coffeebuddy/events/attribute"

	"github.com/cloudevents/sdk-go/v2/event"
)

// An Option configures one receiver; see [App.Command], [App.Interaction] and [App.Event].
type Option func(*options) error

type options struct{ durable bool }

// Durable makes requests for a receiver outlive the pod. The request is verified, converted to its
// event, and handed to the sink. Slack gets its 200 only after the sink has accepted the event. The
// broker delivers the event to POST /, and so to the receiver, until the receiver succeeds. The
// receiver's reply is posted to the request's response_url.
//
// The receiver must be idempotent: a broker may deliver an event twice, and does so after a
// failure. If the sink does not accept the event in time, the request counts as not received: the
// user is asked to try again, and Slack sends an event again.
//
// A request of over 1 MiB is too large for POST /. It is processed in this pod, and Slack gets 200
// only if the receiver finishes within 2.75 s.
//
// Registration fails without a sink; see [App.HasSink]. It also fails for interactions whose
// response is the reply, such as view_submission.
func Durable() Option { return func(o *options) error { o.durable = true; return nil } }

// HasSink reports whether receivers can be durable, which takes a sink to hand events to and a
// secret to sign them with.
func (a *App) HasSink() bool { return a.events.HasSink() && a.secrets != nil }

// apply evaluates the options.
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

// Interaction registers the receiver for interactions of one type, such as "block_actions". Their
// events have the type com.slack.interaction.block_actions; the data is Slack's payload. Call it
// before the function serves.
func (a *App) Interaction(interactionType string, receiver events.Receiver, given ...Option) error {
	err := a.on(interactionPrefix, interactionType, receiver, given)
	if err != nil {
		return fmt.Errorf("register interactions %q: %w", interactionType, err)
	}
	return nil
}

// Event registers the receiver for Events API events of one type, such as "app_mention". Their
// events have the type com.slack.event.app_mention; the data is Slack's envelope. Call it before
// the function serves.
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
	case o.durable && prefix == interactionPrefix && expectationsOf(name).inResponse:
		return errors.New("durable: Slack takes the reply as the response, so that it cannot come later")
	case !o.durable:
		return a.events.On(prefix+name, a.delivered(receiver))
	}
	a.durable[prefix+name] = true
	return a.events.On(prefix+name, a.delivered(receiver), events.Deduplicate(trustAge))
}

// handOff sends an event to the sink and responds once the sink has accepted it.
func (a *App) handOff(ctx context.Context, d *delivery, by time.Time) response {
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
		return response{outcome: accepted, status: http.StatusOK}
	}
	if _, wrong := errors.AsType[*attribute.Error](err); wrong { // it never reached the sink
		return malformed(http.StatusBadRequest)
	}
	a.events.Log().LogAttrs(ctx, slog.LevelWarn, "the sink did not accept an event of Slack's",
		slog.String("kind", string(d.kind)), slog.String("why", err.Error()))
	failed := events.Verdict{Outcome: events.Retry, RetryAfter: time.Second}
	switch {
	case d.kind == command:
		return response{outcome: unavailable, status: http.StatusOK, message: d.apology(failed)}
	case d.responseURL != "": // Slack shows the user no text when a click fails
		a.postLater(ctx, d, d.apology(failed))
	}
	return response{outcome: unavailable, status: http.StatusServiceUnavailable, code: string(failed.Outcome), retryAfter: failed.RetryAfter}
}

// Admit returns nil for an event that this function verified on one of Slack's routes and handed to
// the sink at most a day ago. It guards POST /, where anyone may send. For any other event it
// returns a permanent error; if the signature cannot be checked now, the error asks for a retry.
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

// delivered wraps a receiver so that its reply to an event from the sink is posted to the
// response_url. The broker would turn the reply into an event, and the user would never see it.
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
			// Tell the user only of a final refusal: the broker delivers the event again after any
			// other error, and after a refusal that comes too late.
			if v := events.Refusal(ctx, err); v.Outcome == events.Rejected && ctx.Err() == nil {
				_ = a.post(context.WithoutCancel(ctx), d.responseURL, d.apology(v))
			}
			return nil, err
		}
		message, err := messageOf(reply)
		if err == nil && message.body != nil {
			// It is accepted, and never delivered again: the post has its own deadline, not what is
			// left of the receiver's. A failure is logged by post.
			_ = a.post(context.WithoutCancel(ctx), d.responseURL, message)
		}
		return nil, err
	}
}

// deliveryOf restores what the event tells about the Slack request behind it.
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
