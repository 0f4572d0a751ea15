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
	// as many events as run at a time by default. A body that has a slot is bounded by that.
	bodiesLimit = 32 << 20

	// bodyTimeout is how long a body may take to arrive: 1 MiB at 70 kB/s.
	bodyTimeout = 15 * time.Second

	// firstByteTimeout is how long the first byte of a body may take, from the end of the
	// header.
	firstByteTimeout = time.Second

	// bodyRate is how fast a body must arrive, in bytes per second, and bodySlack how far it may
	// be behind: a packet that is lost is sent again within that time.
	bodyRate  = 70_000
	bodySlack = 2 * time.Second
)

var (
	errTooLarge = errors.New("the body is over 1 MiB")
	errNoRoom   = errors.New("too many bodies are arriving")
)

// bodies are all bodies that arrive.
type bodies struct{ bytes atomic.Int64 }

// A body is what was read of a request. Give it back with release.
type body struct {
	text []byte
	held int64 // bytes of the limit
	of   *bodies
}

// grow makes room for more bytes, to a size.
func (b *body) grow(size int64) error {
	if b.of.bytes.Add(size-b.held) > bodiesLimit {
		b.of.bytes.Add(b.held - size)
		return errNoRoom
	}
	b.held = size
	b.text = append(make([]byte, 0, size), b.text...) // of exactly that size
	return nil
}

// release gives back what the body holds of the limit, once something else bounds it. It may be
// called again.
func (b *body) release() {
	b.of.bytes.Add(-b.held)
	b.held = 0
}

// read reads a whole body, at most bodyLimit. Its buffer grows with what arrives, not with what
// Content-Length promises.
func (all *bodies) read(w *response, r *http.Request) (b body, err error) {
	b.of = all
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
	const unknown, most = 512, 16 << 10
	size := min(r.ContentLength+1, most) // and one, to see the end
	if r.ContentLength < 0 {
		size = unknown
	}
	for {
		if len(b.text) == cap(b.text) {
			if err := b.grow(size); err != nil {
				return b, err
			}
			size = min(2*size, bodyLimit+1)
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
