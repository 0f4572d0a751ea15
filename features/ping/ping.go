// Package ping shows that the way from Slack to the function and back works: /coffee ping
// within the pod, /coffee echo by the broker where there is one. It is also the example of
// a feature: a function that registers receivers with what it is given.
package ping

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"coffeebuddy/events"
	"coffeebuddy/slack"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Register registers the slash commands /coffee ping and /coffee echo. Where there is a
// sink, echo is durable: its event is handed to the broker, and the receiver runs when
// the broker delivers it.
func Register(app *slack.App) error {
	var durable []slack.Option
	if app.HasSink() {
		durable = []slack.Option{slack.Durable()}
	}
	return errors.Join(
		app.Command("/coffee ping", ping),
		app.Command("/coffee echo", echo, durable...),
	)
}

// ping replies to show that the whole way works.
func ping(context.Context, event.Event) (*event.Event, error) { return slack.Ephemeral("pong"), nil }

// echo replies with the text after its own name.
func echo(_ context.Context, e event.Event) (*event.Event, error) {
	var command struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(e.Data(), &command); err != nil {
		return nil, events.Permanent(errors.New("the data has no text"))
	}
	_, text, _ := strings.Cut(strings.TrimSpace(command.Text), " ")
	if text = strings.TrimSpace(text); text == "" {
		text = "Type something after echo."
	}
	return slack.Ephemeral(text), nil
}
