package handler_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"

	"github.com/matryer/is"
)

// TestOtherDataIsAMismatch: an earlier version answered a forged event with the first one's
// reply, and an honest one with that of a forged one that came first.
func TestOtherDataIsAMismatch(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newFunction(t), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	send := func(data string) (int, string) {
		w := f.ask("POST", "/", data, event1("Ce-Type", "coffee.ordered", "Ce-Id", "1")...)
		return w.Code, w.Body.String()
	}
	code, _ := send("1")
	is.Equal(code, 200)
	code, body := send("2")
	is.Equal(code, 422)
	is.Equal(body, `{"error":"mismatch"}`+"\n")
	code, body = send("1")
	is.Equal(code, 200)
	is.Equal(body, "1")
	is.Equal(c.effects.Load(), int64(1))
	is.Equal(f.series(`coffeebuddy_events_total{outcome="mismatch"}`), "1")
}

// TestPrincipalsHaveEventsOfTheirOwn: nobody claims an event in the name of another.
func TestPrincipalsHaveEventsOfTheirOwn(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var asked []string
	f, c := guarded(t, &asked), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	is.Equal(f.order("1", "Authorization", "Bearer good").Body.String(), "1")
	is.Equal(f.order("1", "Authorization", "Bearer other").Body.String(), "2")
	is.Equal(f.order("1", "Authorization", "Bearer good").Body.String(), "1")
}

// away is a ledger that cannot be asked.
type away struct{}

func (away) Claim(context.Context, events.Request) (events.Claim, error) {
	return nil, errors.New("canary")
}

// TestLedgerThatCannotBeAsked: only receivers that need it answer 503.
func TestLedgerThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f, c := newFunction(t, func(c *config) { c.Ledger = away{} }), new(counter)
	is.NoErr(f.On("coffee.ordered", c.receive, events.Deduplicate(time.Hour)))
	is.NoErr(f.On("coffee.asked", c.receive))
	w := f.order("1")
	is.Equal(w.Code, 503)
	is.Equal(w.Header().Get("Retry-After"), "1")
	is.Equal(w.Body.String(), `{"error":"retry"}`+"\n")
	is.Equal(c.effects.Load(), int64(0))
	is.Equal(f.ask("POST", "/", "1", event1("Ce-Type", "coffee.asked")...).Code, 200)
	is.Equal(f.ask("GET", handler.LivePath, "").Code, 200)
}
