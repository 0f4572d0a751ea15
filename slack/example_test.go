package slack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"coffeebuddy/events"
	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
)

// This feature answers the command /coffee order.
func Example() {
	register := func(_ *events.Events, app *slack.App) error {
		return app.Command("/coffee order", func(_ context.Context, e event.Event) (*event.Event, error) {
			var command struct {
				User string `json:"user_name"`
			}
			if err := json.Unmarshal(e.Data(), &command); err != nil {
				return nil, events.Permanent(err)
			}
			return slack.InChannel("One coffee for " + command.User), nil
		})
	}

	var t testing.T // in a test, the parameter t
	s := slacktest.New(&t, register)
	fmt.Println(s.Command("/coffee order espresso").Body)
	// Output: {"response_type":"in_channel","text":"One coffee for ada"}
}

// A durable command outlives its pod: Slack gets its 200 once the sink has accepted the event, and
// the broker delivers the event until the receiver succeeds.
func ExampleDurable() {
	order := func(_ context.Context, _, drink string) error {
		fmt.Println("ordered:", drink)
		return nil
	}
	register := func(_ *events.Events, app *slack.App) error {
		return app.Command("/coffee order", func(ctx context.Context, e event.Event) (*event.Event, error) {
			var command struct{ Text string }
			if err := e.DataAs(&command); err != nil {
				return nil, events.Permanent(err)
			}
			return slack.Ephemeral("Ordered: " + command.Text), order(ctx, e.ID(), command.Text)
		}, slack.Durable())
	}

	var t testing.T // in a test, the parameter t
	s := slacktest.NewWithSink(&t, func(*slack.Config) {}, register)
	fmt.Println("Slack is told", s.Command("/coffee order espresso").Status)
	fmt.Println("the broker is told", s.Deliver(s.Sent()[0]).Status())
	fmt.Println("the user reads", s.Posts())
	// Output:
	// Slack is told 200
	// ordered: order espresso
	// the broker is told 204
	// the user reads [{"response_type":"ephemeral","text":"Ordered: order espresso"}]
}
