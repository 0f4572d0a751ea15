package handler

import (
	"net/http"
	"time"

	"coffeebuddy/internal/bounded"
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

	// firstByteTimeout is how long the first byte of a body may take once reading begins, which
	// is after the sender was authorized.
	firstByteTimeout = time.Second

	// bodyRate is how fast a body must arrive, in bytes per second, and bodySlack how far it may
	// be behind: a packet that is lost is sent again, and a busy sender goes on, within that time.
	bodyRate  = 70_000
	bodySlack = 5 * time.Second
)

// bodies are all bodies in memory.
type bodies struct {
	arriving bounded.Budget
	received bounded.Budget // of events that have a slot, until their response is written
}

// newBodies returns the bodies of a process with a memory limit, in bytes. Without a limit, for
// which Go has the largest number, the concurrency limit alone bounds the events received.
func newBodies(memoryLimit int64) bodies {
	share := max(memoryLimit/shareOfMemory, bodyLimit+1)
	return bodies{arriving: bounded.Budget{Limit: min(share, bodiesLimit)}, received: bounded.Budget{Limit: share}}
}

// read reads a whole body, at most bodyLimit. Its buffer grows with what arrives, not with what
// Content-Length promises.
func (all *bodies) read(w *response, r *http.Request) (bounded.Body, error) {
	b := bounded.NewBody(&all.arriving)
	switch {
	case r.ContentLength > bodyLimit:
		return b, bounded.ErrTooLarge
	case r.ContentLength == 0:
		return b, nil // without a deadline: fact 4 of response
	}
	// Where the connection has no deadlines, in a test, the body is there already. net/http
	// removes the deadline once the whole body was read.
	connection, began := http.NewResponseController(w), time.Now()
	_ = connection.SetReadDeadline(began.Add(firstByteTimeout))
	const unknown, first = 512, 16 << 10
	most := r.ContentLength + 1 // and one, to see the end
	begin := min(most, first)
	if r.ContentLength < 0 {
		most, begin = bodyLimit+1, unknown
	}
	due := 0 // the size at which the deadline is moved
	err := b.Read(r.Body, bodyLimit, func(size int64) int64 { return max(begin, min(4*size, most)) }, func(bytes int) {
		if bytes > due {
			_ = connection.SetReadDeadline(began.Add(dueAfter(bytes)))
			due = bytes + bodyRate/2
		}
	})
	return b, err
}

// dueAfter is when more than the first bytes of a body must have arrived.
func dueAfter(size int) time.Duration {
	return min(bodySlack+time.Duration(size)*time.Second/bodyRate, bodyTimeout)
}
