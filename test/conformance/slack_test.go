package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"coffeebuddy/events"
	ours "coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"
)

// TestSlackGo compares the Slack feature and its test kit with the library that most Go
// programs use: it takes their signatures, and reads the events' data.
func TestSlackGo(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	verified := slacktest.Command(slacktest.Secret, "/tea green")
	verifier, err := slack.NewSecretsVerifier(verified.Header, slacktest.Secret)
	is.NoErr(err)
	_, err = io.Copy(&verifier, verified.Body)
	is.NoErr(err)
	is.NoErr(verifier.Ensure())

	var got []event.Event
	s := slacktest.New(t, func(h *events.Events, app *ours.App) error {
		receive := func(_ context.Context, e event.Event) (*event.Event, error) {
			got = append(got, e)
			return nil, nil
		}
		return errors.Join(
			app.Command("/tea", receive),
			h.On("com.slack.interaction.block_actions", receive),
			h.On("com.slack.event.message", receive),
		)
	})
	s.Command("/tea green")
	s.Interact(`{"type":"block_actions","team":{"id":"T1"},"user":{"id":"U1"},"actions":[{"type":"button","action_id":"join","block_id":"b"}]}`)
	s.Event("Ev1", `{"type":"message","channel":"C1","text":"<@U1> & tea"}`)
	is.Equal(len(got), 3)

	request := slacktest.Command(slacktest.Secret, "/tea green")
	command, err := slack.SlashCommandParse(request)
	is.NoErr(err)
	var fields map[string]string
	is.NoErr(json.Unmarshal(got[0].Data(), &fields))
	is.Equal(fields["command"], command.Command)
	is.Equal(fields["text"], command.Text)
	is.Equal(fields["user_id"], command.UserID)
	is.Equal(fields["response_url"], command.ResponseURL)

	var callback slack.InteractionCallback
	is.NoErr(json.Unmarshal(got[1].Data(), &callback))
	is.Equal(got[1].Type(), "com.slack.interaction."+string(callback.Type))
	is.Equal(got[1].Subject(), callback.ActionCallback.BlockActions[0].ActionID)

	delivered, err := slackevents.ParseEvent(got[2].Data(), slackevents.OptionNoVerifyToken())
	is.NoErr(err)
	message := delivered.InnerEvent.Data.(*slackevents.MessageEvent)
	is.Equal(message.Text, "<@U1> & tea")
	is.Equal(got[2].Subject(), message.Channel)
	is.Equal(got[2].ID(), delivered.Data.(*slackevents.EventsAPICallbackEvent).EventID)
}
