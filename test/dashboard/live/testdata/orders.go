package coffeebuddy

import (
	"context"
	"errors"
	"strings"
	"time"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
)

// addOrders registers a feature whose receiver does what an event's subject says.
func addOrders(h *events.Events) error {
	order := func(ctx context.Context, e event.Event) (*event.Event, error) {
		wish, took, _ := strings.Cut(e.Subject(), "/")
		if pause, err := time.ParseDuration(took); err == nil {
			wait(ctx, pause)
		}
		switch wish {
		case "fail":
			return nil, errors.New("the machine is broken")
		case "later":
			return nil, events.RetryAfter(time.Second, errors.New("the machine warms up"))
		case "never":
			return nil, events.Permanent(errors.New("there is no such coffee"))
		case "hang":
			<-ctx.Done()
			return nil, ctx.Err()
		case "panic":
			panic("the machine is on fire")
		case "tell":
			h.Go(ctx, "tell the kitchen", func(ctx context.Context) error { return wait(ctx, 20*time.Millisecond) })
		case "tell nobody":
			h.Go(ctx, "tell nobody", func(context.Context) error { return errors.New("there is no kitchen") })
		}
		return nil, nil
	}
	return errors.Join(
		h.On("coffee.ordered", order, events.Deduplicate(time.Hour)),
		h.On("coffee.paid", func(ctx context.Context, e event.Event) (*event.Event, error) {
			out := event.New()
			out.SetType("coffee.brewing")
			if e.Subject() == "receipt" {
				out.SetType("coffee.receipt")
			}
			return nil, h.Send(ctx, out) // by the outbox
		}, events.Transactional(time.Hour)),
		h.On("com.slack.interaction.block_actions", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			return nil, wait(ctx, 2500*time.Millisecond) // longer than Slack is kept waiting
		}),
	)
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
