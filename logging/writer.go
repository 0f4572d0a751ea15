package logging

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// limit is how much may wait to be written, in bytes: a second of some 4,000 events a second.
const limit = 1 << 20

// A Writer hands lines over to a goroutine that writes them, as many as there are at once, and
// never waits for it: what does not fit into 1 MiB is dropped and counted. The goroutine is there
// only while there are lines.
type Writer struct {
	to      io.Writer
	dropped atomic.Int64

	mu      sync.Mutex
	waiting []byte        // lines
	idle    chan struct{} // closed when nothing waits; nil while no goroutine writes
}

// NewWriter returns a Writer to a file, which may block, such as standard output.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to} }

// Write takes one line or more, all or none. It returns no error, and does not keep the bytes.
func (w *Writer) Write(lines []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting)+len(lines) > limit {
		w.dropped.Add(int64(bytes.Count(lines, []byte("\n"))))
		return len(lines), nil
	}
	w.waiting = append(w.waiting, lines...)
	if w.idle == nil {
		w.idle = make(chan struct{})
		go w.write()
	}
	return len(lines), nil
}

// write is the goroutine. It ends when nothing waits.
func (w *Writer) write() {
	var written []byte
	for {
		w.mu.Lock()
		if len(w.waiting) == 0 {
			w.waiting = kept(written)
			close(w.idle)
			w.idle = nil
			w.mu.Unlock()
			return
		}
		written, w.waiting = w.waiting, kept(written)
		w.mu.Unlock()
		_, _ = w.to.Write(written) // a log that fails has nowhere to say so
	}
}

// kept returns the memory of lines to be used again, unless it is that of a burst.
func kept(lines []byte) []byte {
	if cap(lines) > 64<<10 {
		return nil
	}
	return lines[:0]
}

// Flush returns when all that was written before has left, or when ctx ends.
func (w *Writer) Flush(ctx context.Context) error {
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Dropped returns how many lines were dropped, as a metric.
func (w *Writer) Dropped() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "coffeebuddy_log_lines_dropped_total",
		Help: "Log lines that were dropped because they were not read fast enough.",
	}, func() float64 { return float64(w.dropped.Load()) })
}
