package slack

import (
	"context"
	"errors"
	"strings"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A registration is the receiver of a command.
type registration struct {
	receive events.Receiver
	durable bool
}

// command is the receiver of every slash command; it calls the registered one. It reads the command
// from the data, because func invoke cannot set a subject.
func (a *App) command(ctx context.Context, e event.Event) (*event.Event, error) {
	form, err := objectOf(e.Data())
	if err != nil {
		return nil, events.Permanent(errors.New("the data has no command"))
	}
	found := a.find(form.text("command"), form.text("text"))
	if found.receive == nil {
		return nil, events.Permanent(errors.New("no receiver for the command"))
	}
	return found.receive(ctx, e)
}

// find returns the registration of a command with its text, the zero one if there is none.
func (a *App) find(command, text string) registration {
	if words := strings.Fields(text); len(words) > 0 {
		if found, ok := a.commands[strings.ToLower(command+" "+words[0])]; ok {
			return found
		}
	}
	return a.commands[strings.ToLower(command)]
}

// isCommand reports whether s is a slash and something printable.
func isCommand(s string) bool {
	return len(s) > 1 && s[0] == '/' && isPrintable(s) && !strings.Contains(s, " ")
}
