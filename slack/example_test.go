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

// A feature answers the command /coffee order.
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

	var t testing.T // a test has one
	s := slacktest.New(&t, register)
	fmt.Println(s.Command("/coffee order espresso").Body)
	// Output: {"response_type":"in_channel","text":"One coffee for ada"}
}
