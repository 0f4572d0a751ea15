package slack

import (
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// commandLimit is the size of the largest slash command, in bytes. Its text is short.
	commandLimit = 1 << 20

	// payloadLimit is the size of the largest event or interaction, in bytes. A message of
	// 40,000 Chinese characters that was edited and has an unfurl is an event of 1.9 MB, and
	// a click in it has the message once, in a form, which makes it a third longer.
	payloadLimit = 4 << 20

	// bodiesLimit bounds the memory of all bodies together, in bytes: of those that arrive
	// and of those whose receiver has not finished. An event in the making is about three
	// times its body.
	bodiesLimit = 16 << 20

	// shareOfMemory is the part of the memory limit, which GOMEMLIMIT sets, that bodies may
	// take where that is less: one in so many.
	shareOfMemory = 14

	// bodyTimeout is how long a body may take to arrive: Slack gives up after that.
	bodyTimeout = 3 * time.Second

	// firstByteTimeout is how long the first byte of a body may take.
	firstByteTimeout = time.Second

	// sslCheckLimit is the size of the largest body that is read without a signature:
	// Slack's test of a route is "ssl_check=1" and a token, 42 bytes. No command is as short.
	sslCheckLimit = 64
)

var (
	errTooLarge = errors.New("the body is too large")
	errNoRoom   = errors.New("too many bodies are in memory")
)

// bodies are all bodies in memory.
type bodies struct {
	limit int64
	bytes atomic.Int64
}

// A body is what was read of a request. Give it back with free.
type body struct {
	text []byte
	held int64 // bytes of the limit
	of   *bodies
}

// grow makes room for at least one more byte, and at most for limit.
func (b *body) grow(limit int64) error {
	size := min(max(2*int64(cap(b.text)), 4<<10), limit)
	if b.of.bytes.Add(size-b.held) > b.of.limit {
		b.of.bytes.Add(b.held - size)
		return errNoRoom
	}
	b.held = size
	b.text = slices.Grow(b.text, int(size)-len(b.text))
	return nil
}

// free gives back what the body holds of the limit. It may be called again.
func (b *body) free() {
	b.of.bytes.Add(-b.held)
	b.held = 0
}

// read reads a whole body of at most limit bytes. Its buffer grows with what arrives, not
// with what Content-Length promises.
func (all *bodies) read(w http.ResponseWriter, r *http.Request, limit int64) (_ *body, err error) {
	b := &body{of: all}
	defer func() {
		if err != nil {
			b.free()
		}
	}()
	switch {
	case r.ContentLength > limit:
		return nil, errTooLarge
	case r.ContentLength == 0:
		return b, nil
	}
	// Where the connection has no deadlines, in a test, the body is there already.
	connection, began := http.NewResponseController(w), time.Now()
	_ = connection.SetReadDeadline(began.Add(firstByteTimeout))
	for {
		if len(b.text) == cap(b.text) {
			if err := b.grow(limit + 1); err != nil { // one more, to see the end
				return nil, err
			}
		}
		n, err := r.Body.Read(b.text[len(b.text):cap(b.text)])
		if len(b.text) == 0 && n > 0 {
			_ = connection.SetReadDeadline(began.Add(bodyTimeout))
		}
		b.text = b.text[:len(b.text)+n]
		switch {
		case int64(len(b.text)) > limit:
			return nil, errTooLarge
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
	}
}

// unread is the answer to a body that was not read.
func unread(err error) answer {
	switch {
	case errors.Is(err, errTooLarge):
		return malformed(http.StatusRequestEntityTooLarge)
	case errors.Is(err, errNoRoom):
		return overloaded()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return answer{outcome: rejected, status: http.StatusRequestTimeout, word: "timeout"}
	}
	return malformed(http.StatusBadRequest)
}
