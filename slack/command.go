package slack

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
)

// command is the receiver of every slash command, which finds the one that is meant. It
// goes by the data, since func invoke can set no subject.
func (a *App) command(ctx context.Context, e event.Event) (*event.Event, error) {
	var form struct{ Command, Text string }
	if err := json.Unmarshal(e.Data(), &form); err != nil {
		return nil, events.Permanent(errors.New("the data has no command"))
	}
	receive := a.find(form.Command, form.Text)
	if receive == nil {
		return nil, events.Permanent(errors.New("no receiver for the command"))
	}
	return receive(ctx, e)
}

// find returns the receiver of a command with its text, nil for none.
func (a *App) find(command, text string) events.Receiver {
	if words := strings.Fields(text); len(words) > 0 {
		if receive := a.commands[strings.ToLower(command+" "+words[0])]; receive != nil {
			return receive
		}
	}
	return a.commands[strings.ToLower(command)]
}

// isCommand reports whether s is a slash and something printable.
func isCommand(s string) bool {
	return len(s) > 1 && s[0] == '/' && isPrintable(s) && !strings.Contains(s, " ")
}

// ping answers that the whole way works.
func ping(context.Context, event.Event) (*event.Event, error) { return Ephemeral("pong"), nil }
