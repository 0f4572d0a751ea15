// Command funcgo receives events as a function that func has scaffolded does: knative.dev/func-go serves it.
package main

import (
	"context"

	"github.com/cloudevents/sdk-go/v2/event"
	"knative.dev/func-go/cloudevents"

	"coffeebuddy/test/bench/internal/receiver"
	"coffeebuddy/test/bench/internal/served"
)

type function struct{}

func (function) Handle(ctx context.Context, e event.Event) (*event.Event, error) {
	return receiver.Receive(ctx, e)
}

func main() {
	service := cloudevents.New(function{})
	service.Handler = served.WithMallocs(service.Handler)
	if err := service.Start(context.Background()); err != nil {
		served.Exit(err)
	}
}
