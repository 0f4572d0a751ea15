// Package bounded reads the bodies of requests within budgets of memory, for the endpoints
// of events and those of Slack. How fast a body must arrive is theirs to say.
package bounded

import (
	"errors"
	"io"
	"sync/atomic"
)

var (
	// ErrTooLarge says that a body is over its limit.
	ErrTooLarge = errors.New("the body is too large")

	// ErrNoRoom says that the budget is used up by other bodies.
	ErrNoRoom = errors.New("too many bodies are in memory")
)

// A Budget bounds the bytes of all bodies that are read from it.
type Budget struct {
	Limit int64 // in bytes

	taken atomic.Int64
}

// Taken returns how many bytes the bodies hold.
func (b *Budget) Taken() int64 { return b.taken.Load() }

// take takes some bytes, or none and returns false where there are not as many.
func (b *Budget) take(bytes int64) bool {
	if b.taken.Add(bytes) > b.Limit {
		b.taken.Add(-bytes)
		return false
	}
	return true
}

// A Body is what was read of a request. Release it.
type Body struct {
	Text []byte

	held int64
	from *Budget // nil for none
}

// NewBody returns an empty body that will take its memory from a budget.
func NewBody(from *Budget) Body { return Body{from: from} }

// grow makes room for more bytes, to a size.
func (b *Body) grow(size int64) error {
	if !b.from.take(size - b.held) {
		return ErrNoRoom
	}
	b.held = size
	b.Text = append(make([]byte, 0, size), b.Text...) // of exactly that size
	return nil
}

// Read reads to the end. The error for more than limit bytes is [ErrTooLarge]. The buffer is
// of the sizes that next returns, of its present one, when it is full; the last must leave
// room for one byte more than limit, to see the end. After each read but the last, arrived is
// told how much there is.
func (b *Body) Read(from io.Reader, limit int64, next func(size int64) int64, arrived func(bytes int)) error {
	for {
		if len(b.Text) == cap(b.Text) {
			if err := b.grow(next(int64(cap(b.Text)))); err != nil {
				return err
			}
		}
		n, err := from.Read(b.Text[len(b.Text):cap(b.Text)])
		b.Text = b.Text[:len(b.Text)+n]
		switch {
		case int64(len(b.Text)) > limit:
			return ErrTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		arrived(len(b.Text))
	}
}

// Move has another budget hold the body, and reports whether there is room.
func (b *Body) Move(to *Budget) bool {
	if !to.take(b.held) {
		return false
	}
	if b.from != nil {
		b.from.taken.Add(-b.held)
	}
	b.from = to
	return true
}

// Release gives back what the body holds, and its text. It may be called again.
func (b *Body) Release() {
	if b.from != nil {
		b.from.taken.Add(-b.held)
	}
	*b = Body{}
}
