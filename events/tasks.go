package events

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// taskTimeout is how long a task may take that does not say.
const taskTimeout = time.Minute

// taskOutcome is how a background task ended: a label.
type taskOutcome string

const (
	taskDone   taskOutcome = "done"
	taskFailed taskOutcome = "failed"
	taskCutOff taskOutcome = "cut_off"
)

// A TaskOption is about one task; see [Events.Go].
type TaskOption func(*task)

// Within gives a task another deadline than a minute.
func Within(d time.Duration) TaskOption { return func(t *task) { t.timeout = d } }

// Go runs a function in the background: work that goes on after its event was
// answered. Its context carries the request id and the trace of ctx, and all other
// values, but neither its end nor its transaction: it has a deadline of its own, a minute unless
// [Within] says otherwise.
//
// The name is what the log knows the task by; it is never one that a sender chose. An
// error or a panic is counted and logged by the name alone: what else is worth knowing
// the function logs itself.
//
// Shutdown waits for tasks, those included that are started meanwhile, and cancels
// and names those that it has to cut off.
func (e *Events) Go(ctx context.Context, name string, f func(context.Context) error, options ...TaskOption) {
	t := &task{name: name, timeout: taskTimeout}
	for _, option := range options {
		option(t)
	}
	t.ctx, t.cancel = context.WithTimeout(WithSender(context.WithoutCancel(ctx), nil), t.timeout)
	e.tasks.add(t)
	go e.task(t, f)
}

// A task is one call of Go.
type task struct {
	name    string
	timeout time.Duration
	ctx     context.Context //nolint:containedctx // the task is its call
	cancel  context.CancelFunc
}

// task is the goroutine of one task.
func (e *Events) task(t *task, f func(context.Context) error) {
	outcome := taskFailed
	defer func() {
		if p := recover(); p != nil {
			outcome = taskFailed
			e.panicked(t.ctx, p)
		}
		t.cancel()
		if !e.tasks.ending(t) {
			return // it was cut off, and counted as that
		}
		defer e.tasks.remove(t) // when all is said of it: shutdown waits for that, too
		e.metrics.tasks[outcome].Inc()
		if outcome == taskFailed {
			e.logger.LogAttrs(t.ctx, slog.LevelWarn, "a task failed", slog.String("task", t.name))
		}
	}()
	if err := f(t.ctx); err == nil {
		outcome = taskDone
	}
}

// tasks are those that run, true, and those whose end is being counted, false.
type tasks struct {
	mu      sync.Mutex
	running map[*task]bool
	idle    chan struct{} // closed when there are none any more; nil where nobody waits
}

func (s *tasks) add(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[t] = true
}

// ending reports whether the task still ran: it will not be cut off any more.
func (s *tasks) ending(t *task) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running[t] {
		return false
	}
	s.running[t] = false
	return true
}

func (s *tasks) remove(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, t)
	if len(s.running) == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}

// wait returns when no task runs, or with those that are left when ctx ends: they
// are no longer ours.
func (s *tasks) wait(ctx context.Context) []*task {
	s.mu.Lock()
	if len(s.running) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []*task
	for t, runs := range s.running {
		if runs {
			left = append(left, t)
			delete(s.running, t)
		}
	}
	slices.SortFunc(left, func(a, b *task) int { return strings.Compare(a.name, b.name) })
	return left
}

// cutOff cancels, counts and logs tasks that did not end in time, and returns their names.
func (e *Events) cutOff(left []*task) []string {
	var names []string
	for _, t := range left {
		t.cancel()
		e.metrics.tasks[taskCutOff].Inc()
		names = append(names, t.name)
	}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for _, t := range left {
			e.logger.LogAttrs(t.ctx, slog.LevelError, "a task was cut off", slog.String("task", t.name))
		}
	}()
	select {
	case <-logged:
	case <-time.After(100 * time.Millisecond): // a blocked log must not delay shutdown
	}
	return names
}

// Wait returns when no event and no task is in flight any more, including events whose
// receiver is still running after its response, and takes no further event. When ctx has ended
// and some are, the error is a [CutOff]. Call it when no more requests come.
func (e *Engine) Wait(ctx context.Context) error {
	cut := &CutOff{Events: e.wait(ctx)}
	if left := e.tasks.wait(ctx); len(left) > 0 {
		cut.Tasks = e.cutOff(left)
	}
	if cut.Events == 0 && len(cut.Tasks) == 0 {
		return nil
	}
	cut.why = ctx.Err()
	return cut
}

// CutOff is the error that work was in flight when shutdown had to end.
type CutOff struct {
	Events int      // how many
	Tasks  []string // their names
	why    error
}

func (c *CutOff) Error() string {
	var cut []string
	if c.Events > 0 {
		cut = append(cut, fmt.Sprintf("%d events were cut off", c.Events))
	}
	if len(c.Tasks) > 0 {
		cut = append(cut, fmt.Sprintf("%d tasks were cut off (%s)", len(c.Tasks), strings.Join(c.Tasks, ", ")))
	}
	return fmt.Sprintf("%s: %v", strings.Join(cut, ", "), c.why)
}

// Unwrap returns why shutdown ended.
func (c *CutOff) Unwrap() error { return c.why }

// wait takes every slot for good, and returns how many are in use when ctx ends.
func (e *Engine) wait(ctx context.Context) int {
	e.closing.Lock()
	defer e.closing.Unlock()
	left := 0
	for _, l := range e.limits {
		left += l.close(ctx)
	}
	return left
}
