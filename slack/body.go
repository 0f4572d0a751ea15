package slack

import (
	"errors"
	"net/http"
	"os"
	"time"

	"coffeebuddy/internal/bounded"
)

const (
	// commandLimit is the size of the largest slash command, in bytes. Its text is short.
	commandLimit = 1 << 20

	// payloadLimit is the size of the largest event or interaction, in bytes. A message of 40,000
	// Chinese characters that was edited and has an unfurl is an event of 1.9 MB, and a click in it
	// carries the message once, form-encoded, which adds a third.
	payloadLimit = 4 << 20

	// bodiesLimit bounds the memory of all bodies together, in bytes: those still arriving and
	// those whose receiver has not finished. Building an event takes about three times the size of
	// its body.
	bodiesLimit = 16 << 20

	// shareOfMemory caps the memory for bodies at 1/shareOfMemory of the memory limit (GOMEMLIMIT),
	// if that is less than bodiesLimit.
	shareOfMemory = 14

	// bodyTimeout is how long a body may take to arrive. Slack gives up after that time.
	bodyTimeout = 3 * time.Second

	// firstByteTimeout is how long the first byte of a body may take.
	firstByteTimeout = time.Second

	// sslCheckLimit is the size of the largest unsigned body that is read, in bytes: Slack's test
	// of a route is "ssl_check=1" and a token, 42 bytes. Every command is longer.
	sslCheckLimit = 64
)

// readBody reads a whole body of at most limit bytes. Its buffer grows with what arrives, not
// with what Content-Length promises.
func (a *App) readBody(w http.ResponseWriter, r *http.Request, limit int64) (*bounded.Body, error) {
	b := bounded.NewBody(&a.bodies)
	switch {
	case r.ContentLength > limit:
		return nil, bounded.ErrTooLarge
	case r.ContentLength == 0:
		return &b, nil
	}
	// Without deadlines the connection is a test's, and the body has already arrived.
	connection, began := http.NewResponseController(w), time.Now()
	_ = connection.SetReadDeadline(began.Add(firstByteTimeout))
	const small = 4<<10 + 1 // plus one byte, to detect the end
	first := true
	err := b.Read(r.Body, limit, func(size int64) int64 { return min(max(2*size, small), limit+1) }, func(bytes int) {
		if first && bytes > 0 {
			first = false
			_ = connection.SetReadDeadline(began.Add(bodyTimeout))
		}
	})
	if err != nil {
		b.Release()
		return nil, err
	}
	return &b, nil
}

// unread returns the response to a request whose body could not be read.
func unread(err error) response {
	switch {
	case errors.Is(err, bounded.ErrTooLarge):
		return malformed(http.StatusRequestEntityTooLarge)
	case errors.Is(err, bounded.ErrNoRoom):
		return overloaded()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return response{outcome: rejected, status: http.StatusRequestTimeout, code: "timeout"}
	}
	return malformed(http.StatusBadRequest)
}
