// Package single runs work that several callers want and only one should do: one run at
// a time, in a goroutine of its own, whose panic is an error.
package single

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"coffeebuddy/internal/fault"
)

// A Work runs at most once at a time. Set its fields before the first use.
type Work struct {
	Name    string        // what the log calls it, such as "renewal of the Vault token"
	Timeout time.Duration // of one run; must not be 0
	Log     *slog.Logger  // must not be nil
	OnPanic func()        // counts panics; nil counts none

	mu    sync.Mutex
	ended chan struct{} // closed when the run under way ends; nil if there is none
}

// Start starts a run, unless one is under way, and returns a channel that is closed when
// the run has ended. It calls do, and then done with do's error; a panic of do is an
// error, too, and is logged. The run has ctx' values, but neither its deadline nor its
// end: a caller that leaves changes nothing for the others. A caller that starts one only where the
// last result is too old looks at it under the lock that done takes, and calls Start under it too:
// otherwise a run that ends in between is followed by another.
func (w *Work) Start(ctx context.Context, do func(context.Context) error, done func(error)) (ended <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return w.ended
	}
	over := make(chan struct{})
	w.ended = over
	go func() {
		defer func() {
			w.mu.Lock()
			w.ended = nil
			w.mu.Unlock()
			close(over)
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.Timeout)
		defer cancel()
		done(w.Guard(ctx, do))
	}()
	return over
}

// Running returns the channel of the run under way, nil if there is none.
func (w *Work) Running() (ended <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended == nil {
		return nil // and not a channel that is nil
	}
	return w.ended
}

// Wait waits for the run under way, if there is one, until ctx ends.
func (w *Work) Wait(ctx context.Context) {
	ended := w.Running()
	if ended == nil {
		return
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// Panic returns what a log may hold of a panic that was just recovered from: its kind, and
// the stack. Its own text is there only where that is the runtime's: any other text may hold
// what was being handled.
func Panic(p any) []slog.Attr {
	what := fmt.Sprintf("%T", p)
	if err, ok := p.(runtime.Error); ok {
		what = err.Error()
	}
	return []slog.Attr{slog.String("panic", what), slog.String("stack", string(debug.Stack()))}
}

// Guard calls do and turns a panic into an error and a log line; see [Panic].
func (w *Work) Guard(ctx context.Context, do func(context.Context) error) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		w.Log.LogAttrs(context.Background(), slog.LevelError, "a panic was recovered", append([]slog.Attr{slog.String("in", w.Name)}, Panic(p)...)...)
		if w.OnPanic != nil {
			w.OnPanic()
		}
		err = fault.New(fault.BadResponse, w.Name+" panicked")
	}()
	return do(ctx)
}
