// Package receiver is what the programs that receive events do with one.
package receiver

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Receive answers an event of the type boson.fn with its data, and any other with nothing.
func Receive(_ context.Context, e event.Event) (*event.Event, error) {
	if e.Type() != "boson.fn" {
		return nil, nil //nolint:nilnil // no reply, and no error either
	}
	reply := event.New()
	reply.SetID("1")
	reply.SetSource("/bench")
	reply.SetType("bench.echo")
	return &reply, reply.SetData(event.ApplicationJSON, e.Data())
}
