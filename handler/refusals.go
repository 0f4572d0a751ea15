package handler

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// refusalWindow is how long one line stands for all refusals of its kind.
const refusalWindow = 10 * time.Second

// refusals limit the log lines of requests that were refused before anything was known of
// them, which anybody can cause at any rate: of each kind the first in ten seconds, and then,
// or at the end of the process, how many more there were.
type refusals struct {
	mu    sync.Mutex
	kinds map[refusal]*window
}

// A window is the time in which the refusals of a kind are counted.
type window struct {
	until time.Time
	more  int // not logged
}

// A refusal is a kind of them. Its values are from closed lists.
type refusal struct {
	route *route
	code  int
}

// isRefusal reports whether a response says no more than that the request was refused.
func isRefusal(w *response, code int) bool {
	return (code >= 400 && code < 500 || code == http.StatusServiceUnavailable) && w.event.id == ""
}

// first reports whether a refusal is to be logged, and counts it otherwise. The log is told of
// the count when ten seconds are over.
func (l *refusals) first(kind refusal) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	w := l.kinds[kind]
	if w == nil || w.more == 0 && !now.Before(w.until) {
		if l.kinds == nil {
			l.kinds = make(map[refusal]*window)
		}
		l.kinds[kind] = &window{until: now.Add(refusalWindow)}
		return true
	}
	if w.more++; w.more == 1 {
		time.AfterFunc(w.until.Sub(now), func() { l.end(kind) })
	}
	return false
}

// end logs how many refusals of a kind were not logged, if there are any.
func (l *refusals) end(kind refusal) {
	l.mu.Lock()
	w := l.kinds[kind]
	delete(l.kinds, kind)
	l.mu.Unlock()
	if w == nil || w.more == 0 {
		return
	}
	line := slog.NewRecord(time.Now(), slog.LevelInfo, "requests refused", 0)
	line.AddAttrs(slog.Int("code", kind.code), slog.Int("count", w.more))
	_ = kind.route.log.Handle(context.Background(), line) // a log that fails has nowhere to say so
}

// endAll ends every window, since a process that stops does not wait for their ten seconds.
func (l *refusals) endAll() {
	l.mu.Lock()
	kinds := slices.Collect(maps.Keys(l.kinds))
	l.mu.Unlock()
	for _, kind := range kinds {
		l.end(kind)
	}
}
