package events

import (
	"context"
	"sync"
	"time"
)

// receiving is a receiver's context: it has the values of its request, and ends at its
// deadline, when its sender leaves, or when the receiver returns. Most receivers never ask
// for its Done channel, so the context that has one is made when it is asked for.
type receiving struct {
	request     context.Context //nolint:containedctx // it is a context
	correlation *Correlation
	deadline    time.Time

	mu     sync.Mutex
	full   context.Context    //nolint:containedctx // nil until it is needed
	cancel context.CancelFunc // of full
	ended  bool
}

// of sets what the context is made of.
func (r *receiving) of(request context.Context, c *Correlation, deadline time.Time) {
	r.request, r.correlation, r.deadline = request, c, deadline
}

// Deadline implements context.Context.
func (r *receiving) Deadline() (time.Time, bool) { return r.deadline, true }

// Done implements context.Context.
func (r *receiving) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.whole().Done()
}

// whole returns the full context. The lock is held.
func (r *receiving) whole() context.Context {
	if r.full == nil {
		r.full, r.cancel = context.WithDeadline(r.request, r.deadline)
		if r.ended {
			r.cancel()
		}
	}
	return r.full
}

// Err implements context.Context.
func (r *receiving) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full == nil && !r.ended && r.request.Err() == nil && time.Now().Before(r.deadline) {
		return nil
	}
	return r.whole().Err()
}

// Value implements context.Context. The full context is asked first, as that is how package
// context finds out that it need not watch this one by a goroutine.
func (r *receiving) Value(key any) any {
	switch key {
	case correlationKey{}:
		return r.correlation
	case senderKey{}:
		return nil // the transaction of the receiver that dispatched the event is not this one's
	}
	r.mu.Lock()
	full := r.full
	r.mu.Unlock()
	if full != nil {
		return full.Value(key)
	}
	return r.request.Value(key)
}

// end ends the context.
func (r *receiving) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.cancel != nil {
		r.cancel()
	}
}
