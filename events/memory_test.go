package events_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/events/ledgertest"

	"github.com/matryer/is"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	memory := events.NewMemory()
	ledgertest.Run(t, func(*testing.T) events.Ledger { return memory })
}

// settle claims and settles an event.
func settle(t *testing.T, l events.Ledger, receiver, id string, size int) {
	t.Helper()
	claim, err := l.Claim(t.Context(), events.Request{Key: events.KeyOf(receiver, id), Receiver: receiver, Keep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := claim.Settle(t.Context(), make([]byte, size)); err != nil {
		t.Fatal(err)
	}
}

// TestFloodEvictsOnlyItsOwn: an earlier version let 10,050 events for one receiver evict the
// claims of all others, Slack's included, so that a replayed command ran twice.
func TestFloodEvictsOnlyItsOwn(t *testing.T) {
	t.Parallel()
	for _, flood := range []struct {
		of           string
		number, size int
	}{{"numbers", 25_000, 0}, {"bytes", 40, 1_000_000}} {
		t.Run(flood.of, func(t *testing.T) {
			t.Parallel()
			is, m := is.New(t), events.NewMemory()
			for i := range 100 {
				settle(t, m, "com.slack.command", strconv.Itoa(i), 100)
			}
			for i := range flood.number {
				settle(t, m, "coffee.ordered", strconv.Itoa(i), flood.size)
			}
			for i := range 100 {
				_, err := m.Claim(t.Context(), events.Request{Key: events.KeyOf("com.slack.command", strconv.Itoa(i))})
				_, ok := errors.AsType[*events.Answered](err)
				is.True(ok)
			}
			_, err := m.Claim(t.Context(), events.Request{Key: events.KeyOf("coffee.ordered", strconv.Itoa(flood.number-1))})
			is.True(err != nil) // the newest of the flood is remembered
			_, err = m.Claim(t.Context(), events.Request{Key: events.KeyOf("coffee.ordered", "0")})
			is.NoErr(err)
		})
	}
}

func TestMemoryHasNoTransactions(t *testing.T) {
	t.Parallel()
	_, err := events.NewMemory().Claim(t.Context(), events.Request{Transactional: true})
	is.New(t).Equal(err, events.ErrNoTransaction)
}
