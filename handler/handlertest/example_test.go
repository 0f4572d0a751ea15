package handlertest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"coffeebuddy/events"
	"coffeebuddy/handler/handlertest"

	"github.com/cloudevents/sdk-go/v2/event"
)

// refuseTea is the feature under test.
func refuseTea(e *events.Events) error {
	return e.On("coffee.ordered", func(_ context.Context, order event.Event) (*event.Event, error) {
		if string(order.Data()) == `"tea"` {
			return nil, events.Permanent(errors.New("no tea here"))
		}
		return nil, nil
	})
}

// What would the broker do?
func Example() {
	var t testing.T // a test has one
	f := handlertest.New(&t, refuseTea)
	d := f.Deliver(handlertest.Event("coffee.ordered", `"tea"`))
	fmt.Println(len(d.Attempts), d.Status(), d.DeadLetter != nil)
	// Output: 1 422 true
}
