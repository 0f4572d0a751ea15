package events_test

import (
	"testing"
	"time"

	"coffeebuddy/events"

	"github.com/matryer/is"
)

func TestTransactionalNeedsALedger(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	err := newEngine(t).On("coffee.ordered", answering(nil, nil), events.Transactional(time.Hour))
	is.True(err != nil)
	is.Equal(err.Error(), "register a receiver for coffee.ordered: transactional: no ledger is configured: COFFEEBUDDY_LEDGER is not set")
}
