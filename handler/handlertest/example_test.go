package handlertest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"coffeebuddy/handler"
	"coffeebuddy/handler/handlertest"

	"github.com/cloudevents/sdk-go/v2/event"
)

// refuseTea is the feature under test.
func refuseTea(h *handler.Handler) error {
	return h.On("coffee.ordered", func(_ context.Context, e event.Event) (*event.Event, error) {
		if string(e.Data()) == `"tea"` {
			return nil, handler.Permanent(errors.New("no tea here"))
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
