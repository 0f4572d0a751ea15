package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"coffeebuddy"
	"coffeebuddy/events"
	"coffeebuddy/ledger"

	"github.com/cloudevents/sdk-go/v2/event"
)

// effects are two receivers that have an effect for each event: gate.transaction in the
// transaction of its event, in the table effect, and gate.plain at the server that GATE_URL
// names. They are there if there is a ledger.
func effects(p coffeebuddy.Platform) error {
	if os.Getenv("COFFEEBUDDY_LEDGER") == "" {
		return nil
	}
	return errors.Join(
		p.Events.On("gate.transaction", func(ctx context.Context, e event.Event) (*event.Event, error) {
			tx, err := ledger.Tx(ctx)
			if err != nil {
				return nil, err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO effect VALUES ($1)`, e.ID()); err != nil {
				return nil, err
			}
			return done(e)
		}, events.Transactional(time.Hour)),
		p.Events.On("gate.plain", func(ctx context.Context, e event.Event) (*event.Event, error) {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv("GATE_URL")+"/"+e.ID(), nil)
			if err != nil {
				return nil, events.Permanent(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return nil, err
			}
			_ = response.Body.Close()
			return done(e)
		}, events.Deduplicate(time.Hour)),
	)
}

// done returns the reply to an event.
func done(e event.Event) (*event.Event, error) {
	reply := event.New()
	reply.SetType("gate.done")
	return &reply, reply.SetData("text/plain", []byte(e.ID()))
}
