package devstack

import (
	"context"
	"fmt"
	"time"
)

// pollInterval is short because what is waited for here takes milliseconds.
const pollInterval = 10 * time.Millisecond

// poll calls condition until it returns nil or ctx ends. The error then holds the last one of the condition that was not
// ctx's own doing.
func poll(ctx context.Context, condition func(context.Context) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last := ctx.Err()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, at last: %w", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
