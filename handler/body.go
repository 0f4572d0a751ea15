package handler

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// bodyLimit is the size of the largest body, in bytes.
	bodyLimit = 1 << 20

	// bodiesLimit bounds the memory of all bodies that arrive or are decoded, in bytes: those of
	// as many events as run at a time by default.
	bodiesLimit = 32 * (bodyLimit + 1)

	// shareOfMemory is the part of the memory limit that bodies may take, one in so many: those
	// that arrive, and once more those whose events are received. A body may be copied while it
	// is decoded, Slack takes as much again, connections and the rest of the process what is left.
	shareOfMemory = 7

	// bodyTimeout is how long a body may take to arrive: 1 MiB at 70 kB/s.
	bodyTimeout = 15 * time.Second

	// decodesAtOnce is how many bodies of more than decodesFreely bytes are decoded at a time.
	// That may take three times a body's memory, for some milliseconds of a processor, of which
	// there are few.
	decodesAtOnce = 4
	decodesFreely = 64 << 10

	// firstByteTimeout is how long the first byte of a body may take, from the end of the
	// header.
	firstByteTimeout = time.Second

	// bodyRate is how fast a body must arrive, in bytes per second, and bodySlack how far it may
	// be behind: a packet that is lost is sent again, and a busy sender goes on, within that time.
	bodyRate  = 70_000
	bodySlack = 5 * time.Second
)

var (
	errTooLarge = errors.New("the body is over 1 MiB")
	errNoRoom   = errors.New("too many bodies are arriving")
)

// bodies are all bodies in memory.
type bodies struct {
	arriving budget
	received budget // of events that have a slot, until their response is written
}

// newBodies returns the bodies of a process with a memory limit, in bytes. Without a limit, for
// which Go has the largest number, the concurrency limit alone bounds the events received.
func newBodies(memoryLimit int64) bodies {
	share := max(memoryLimit/shareOfMemory, bodyLimit+1)
	return bodies{arriving: budget{limit: min(share, bodiesLimit)}, received: budget{limit: share}}
}

// A budget bounds bytes.
type budget struct {
	limit int64
	taken atomic.Int64
}

// take takes some bytes, or none and returns false where there are not as many.
func (b *budget) take(bytes int64) bool {
	if b.taken.Add(bytes) > b.limit {
		b.taken.Add(-bytes)
		return false
	}
	return true
}

func (b *budget) give(bytes int64) { b.taken.Add(-bytes) }

// A body is what was read of a request. Give it back with release.
type body struct {
	text []byte
	held int64   // bytes of a budget
	from *budget // nil for none
}

// grow makes room for more bytes, to a size.
func (b *body) grow(size int64) error {
	if !b.from.take(size - b.held) {
		return errNoRoom
	}
	b.held = size
	b.text = append(make([]byte, 0, size), b.text...) // of exactly that size
	return nil
}

// move has another budget hold the body, and reports whether there is room.
func (b *body) move(to *budget) bool {
	if !to.take(b.held) {
		return false
	}
	if b.from != nil {
		b.from.give(b.held)
	}
	b.from = to
	return true
}

// release gives back what the body holds. It may be called again.
func (b *body) release() {
	if b.from != nil {
		b.from.give(b.held)
	}
	*b = body{}
}

// read reads a whole body, at most bodyLimit. Its buffer grows with what arrives, not with what
// Content-Length promises.
func (all *bodies) read(w *response, r *http.Request) (b body, err error) {
	b.from = &all.arriving
	switch {
	case r.ContentLength > bodyLimit:
		return b, errTooLarge
	case r.ContentLength == 0:
		return b, nil // without a deadline: fact 4 of response
	}
	// Where the connection has no deadlines, in a test, the body is there already. net/http
	// removes the deadline once the whole body was read.
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(w.began.Add(firstByteTimeout))
	due := 0 // the size at which the deadline is moved
	const unknown, first = 512, 16 << 10
	most := r.ContentLength + 1 // and one, to see the end
	size := min(most, first)
	if r.ContentLength < 0 {
		most, size = bodyLimit+1, unknown
	}
	for {
		if len(b.text) == cap(b.text) {
			if err := b.grow(size); err != nil {
				return b, err
			}
			size = min(4*size, most)
		}
		n, err := r.Body.Read(b.text[len(b.text):cap(b.text)])
		b.text = b.text[:len(b.text)+n]
		switch {
		case len(b.text) > bodyLimit:
			return b, errTooLarge
		case err == io.EOF:
			return b, nil
		case err != nil:
			return b, err
		case len(b.text) > due:
			_ = connection.SetReadDeadline(w.began.Add(dueAfter(len(b.text))))
			due = len(b.text) + bodyRate/2
		}
	}
}

// dueAfter is when more than the first bytes of a body must have arrived.
func dueAfter(size int) time.Duration {
	return min(bodySlack+time.Duration(size)*time.Second/bodyRate, bodyTimeout)
}
