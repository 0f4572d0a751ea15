package slacktest_test

import (
	"context"
	"fmt"
	"testing"

	"coffeebuddy/events"
	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Slack ignores the response to a click, so the reply is posted.
func Example() {
	var t testing.T // in a test, the parameter t
	s := slacktest.New(&t, func(e *events.Events, _ *slack.App) error {
		return e.On("com.slack.interaction.block_actions", func(context.Context, event.Event) (*event.Event, error) {
			return slack.Ephemeral("You are in."), nil
		})
	})
	a := s.Interact(`{"type":"block_actions","response_url":"https://hooks.slack.com/actions/1","actions":[{"action_id":"join"}]}`)
	fmt.Printf("%d %q\n", a.Status, a.Body)
	fmt.Println(s.Wait(context.Background()), s.Posts())
	// Output:
	// 200 ""
	// <nil> [{"response_type":"ephemeral","text":"You are in."}]
}
