// Package connections bounds what callers can hold of a server before, and after, the
// server knows what they want: the number of their connections, the fields of their
// headers, and the time in which they read their responses. net/http bounds none of
// these in a way that fits a small pod: it takes as many connections as come, keeps some
// nine thousand fields of a header of 36 kB, and gives a response one deadline whatever
// its progress.
//
// A connection waits for its caller, or it serves: [Listener.Handler] sees a request
// begin, and its body end, [Listener.State] sees it end. A read of one byte is net/http's
// own, by which it watches for the caller to leave once it has the whole request.
package connections

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxFields is the number of a header's lines, request line included. An event of 256
	// attributes, of which none is in the body, would have more; no known sender comes near.
	maxFields = 256

	// fieldCost is what net/http keeps for one field besides its bytes: an entry in a map,
	// a key, a slice and a string.
	fieldCost = 160

	// freeCost is what each connection may cost by its header without being counted: 20
	// fields and 1 kB, which no probe and few events exceed.
	freeCost = 4 << 10

	// maxCost is what all headers together may cost beyond that, in bytes.
	maxCost = 8 << 20

	// chunkedRead is how much of a chunked body is read at a time, in bytes, so that little of the
	// next request's header comes with its end.
	chunkedRead = 1 << 10

	// readBuffer and writeBuffer are the sizes of the kernel's buffers for one connection, in
	// bytes. The kernel's own defaults grow to megabytes, which the pod pays for. A segment of
	// loopback, over which queue-proxy sends, has 64 KiB: in a buffer without room for one, each
	// waits for a timer, and a body of 1 MiB takes seconds.
	readBuffer  = 96 << 10
	writeBuffer = 16 << 10

	// unreadTimeout is how long the kernel keeps what a caller does not acknowledge, or
	// has no room for, before it ends the connection.
	unreadTimeout = 10 * time.Second

	// writeChunk must be taken within writeTimeout: 13 kB/s at least.
	writeChunk   = 64 << 10
	writeTimeout = 5 * time.Second

	// writeGrace is how long a write may wait for its caller before the connection may be
	// closed to make room.
	writeGrace = 100 * time.Millisecond

	// shareBegun is the part of the connections, one in so many, that may wait for the rest of a
	// request's body, and the part whose response may wait to be read; minBegun of them always
	// may. Each holds a request and its handler's stack, twice the memory of one that waits for a
	// request.
	shareBegun = 8
	minBegun   = 64

	// shareUsed is the part of the connections, one in so many, that may have had a request. Each
	// keeps net/http's buffers and a grown stack: some 30 kB in place of 15.
	shareUsed = 2

	// maxClosing is how many connections that were closed to make room may still have their
	// memory. net/http frees it when their goroutines have run, which a flood would outrun.
	maxClosing = 128

	// closingTimeout is how long a new connection waits for that at most.
	closingTimeout = 100 * time.Millisecond

	// refuseTimeout and refuseBytes bound what is read after a header was refused, for the
	// caller to get the response.
	refuseTimeout = 500 * time.Millisecond
	refuseBytes   = 64 << 10

	// drainTimeout is what a request's body, or a chunk of a response, has left when the
	// drain begins.
	drainTimeout = 2 * time.Second
)

// Config is what a [Listener] is made of.
type Config struct {
	Limit int // connections at a time; 0 stands for 4096

	// Refused is called with the status of each response that net/http sends by itself,
	// to what never became a request: 400, 431, 501. Nil stands for nothing.
	Refused func(status int)
}

// A Listener accepts connections within bounds. It is the Prometheus collector of what
// it has done.
type Listener struct {
	net.Listener

	config Config
	open   *prometheus.Desc
	shed   prometheus.Counter

	mu       sync.Mutex
	conns    map[*conn]bool
	waiting  conn                      // ring of the connections that wait for their callers, the longest first
	cost     int                       // of all headers, beyond freeCost each
	bodies   int                       // connections that wait for the rest of a body
	used     int                       // connections that have had a request
	closing  int                       // connections that were dropped and that net/http has not closed yet
	closed   chan struct{}             // has one when net/http has closed one of those
	writes   atomic.Int64              // responses, or parts of them, that are being written
	looked   atomic.Int64              // when limitWrites did last, in Unix nanoseconds
	draining atomic.Pointer[time.Time] // when bodies end that have not come; nil before the drain
}

// Listen returns a Listener that accepts from another one.
func Listen(inner net.Listener, config Config) *Listener {
	if config.Limit == 0 {
		config.Limit = 4096
	}
	if config.Refused == nil {
		config.Refused = func(int) {}
	}
	l := &Listener{
		Listener: inner, config: config, conns: make(map[*conn]bool), closed: make(chan struct{}, 1),
		open: prometheus.NewDesc("coffeebuddy_connections", "Open connections.", nil, nil),
		shed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coffeebuddy_connections_shed_total",
			Help: "Connections that were closed to make room: silent or idle ones, or ones with an outsized header.",
		}),
	}
	l.waiting.before, l.waiting.after = &l.waiting, &l.waiting
	return l
}

// Accept returns the next connection. Above the limit it closes the one that has been
// waiting longest for its caller, so that a flood cannot keep a probe out; the new one
// where none is waiting, nor has a response that its caller does not read.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		l.awaitClosing()
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if tcp, ok := inner.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(readBuffer) // without which it works as well
			_ = tcp.SetWriteBuffer(writeBuffer)
			setUnreadTimeout(tcp, unreadTimeout)
		}
		if c, ok := l.admit(&conn{Conn: inner, of: l}); ok {
			return c, nil
		}
		_ = inner.Close()
	}
}

// awaitClosing waits until not too many connections are dropped and not closed.
func (l *Listener) awaitClosing() {
	var timeout <-chan time.Time
	for {
		l.mu.Lock()
		closing := l.closing
		l.mu.Unlock()
		if closing <= maxClosing {
			return
		}
		if timeout == nil {
			timeout = time.After(closingTimeout)
		}
		select {
		case <-l.closed:
		case <-timeout:
			return
		}
	}
}

func (l *Listener) admit(c *conn) (*conn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) >= l.config.Limit {
		l.shed.Inc()
		longest := l.waiting.after
		if longest == &l.waiting {
			longest = l.writing()
		}
		if longest == nil {
			return nil, false
		}
		l.drop(longest)
	}
	l.conns[c] = true
	l.push(c)
	return c, true
}

// writing returns the connection whose caller has been longest without taking a response, nil
// if none has been for a while. The lock is held.
func (l *Listener) writing() *conn {
	var longest *conn
	since := time.Now().Add(-writeGrace).UnixNano()
	for c := range l.conns {
		if began := c.writing.Load(); began != 0 && began < since {
			longest, since = c, began
		}
	}
	return longest
}

// drop closes a connection to make room. The lock is held.
func (l *Listener) drop(c *conn) {
	l.forget(c)
	c.dropped = true
	l.closing++
	_ = c.Conn.Close() // net/http's read returns, and it closes once more
}

// forget takes a connection out of what is counted. The lock is held.
func (l *Listener) forget(c *conn) {
	if !l.conns[c] {
		return
	}
	delete(l.conns, c)
	c.waitsForBody(false)
	if c.used {
		l.used--
	}
	c.remove()
	l.charge(c, 0)
}

// push makes a connection the last of those that wait. The lock is held.
func (l *Listener) push(c *conn) {
	c.before, c.after = l.waiting.before, &l.waiting
	c.before.after, c.after.before = c, c
}

// charge notes what a connection's header costs. The lock is held.
func (l *Listener) charge(c *conn, cost int) {
	cost = max(cost-freeCost, 0)
	l.cost += cost - c.cost
	c.cost = cost
}

// afford notes what a connection's header costs, and closes those that have been sending
// theirs longest where all of them cost too much.
func (l *Listener) afford(c *conn, cost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.conns[c] {
		return
	}
	l.charge(c, cost)
	l.shedWhile(func() bool { return l.cost > maxCost }, func(c *conn) bool { return c.cost > 0 })
}

// shedWhile closes some of the connections that wait for their callers, the longest first, while
// there are too many. The lock is held.
func (l *Listener) shedWhile(tooMany func() bool, some func(*conn) bool) {
	for longest := l.waiting.after; longest != &l.waiting && tooMany(); {
		next := longest.after
		if some(longest) {
			l.shed.Inc()
			l.drop(longest)
		}
		longest = next
	}
}

// Drain ends the waiting for callers: at once where no request has begun, within two
// seconds for what is left of a body or a response. Call it when the server has been told
// to shut down, since net/http waits for both.
func (l *Listener) Drain() {
	end := time.Now().Add(drainTimeout)
	l.draining.Store(&end)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Conn.SetWriteDeadline(end)
	}
	for c := l.waiting.after; c != &l.waiting; {
		next := c.after
		if c.phaseNow() == header {
			l.drop(c)
		} else {
			_ = c.SetReadDeadline(end)
		}
		c = next
	}
}

// Describe implements prometheus.Collector.
func (l *Listener) Describe(descs chan<- *prometheus.Desc) {
	descs <- l.open
	l.shed.Describe(descs)
}

// Collect implements prometheus.Collector.
func (l *Listener) Collect(metrics chan<- prometheus.Metric) {
	l.mu.Lock()
	open := len(l.conns)
	l.mu.Unlock()
	metrics <- prometheus.MustNewConstMetric(l.open, prometheus.GaugeValue, float64(open))
	l.shed.Collect(metrics)
}

// A phase is what a connection does.
type phase int32

const (
	header  phase = iota // it waits for a request, or for the rest of its header
	body                 // it waits for the rest of a request's body
	serving              // a handler has the whole request
)

// A conn is one connection. Several goroutines of net/http use it, one at a time but for
// the background read.
type conn struct {
	net.Conn

	of            *Listener
	before, after *conn        // in the ring of those that wait, nil for one that does not; guarded by the lock of the Listener
	used          bool         // it is one of the Listener's used; guarded by the same
	bodyDue       bool         // it is one of the Listener's bodies; guarded by the same
	dropped       bool         // and not closed by net/http yet; guarded by the same
	cost          int          // of the header, beyond freeCost; guarded by the same
	phase         atomic.Int32 // changed by enter alone
	writing       atomic.Int64 // since when its caller takes nothing of a response, in Unix nanoseconds; 0 for no response

	fields, size int  // of the header so far
	blank        bool // the last byte of the header so far ended a line
	ended        bool

	tail     []byte // what came with a header behind its end, in net/http's buffer; nil once that may have changed
	left     int64  // of a body, -1 for one that is chunked
	unsure   int    // what may be the next header, behind a chunked body: what it costs at most
	overfull bool   // the header came with the one before, and has too many fields
}

func (c *conn) phaseNow() phase { return phase(c.phase.Load()) }

// connKey is the key of a connection in the contexts of its requests.
type connKey struct{}

// Context is for [http.Server.ConnContext].
func (l *Listener) Context(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Handler returns a handler that notes of each request that its header is there, before
// the next one answers it.
func (l *Listener) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			if c.overfull {
				w.Header().Set("Connection", "close")
				http.Error(w, tooManyFields, http.StatusRequestHeaderFieldsTooLarge)
				return
			}
			c.follow(r.ContentLength)
			if r.ContentLength != 0 {
				c.enter(body)
				r.Body = &requestBody{r.Body, c}
			} else {
				c.enter(serving)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// follow notes what is left of a request's body, and keeps of the tail what is behind it.
func (c *conn) follow(length int64) {
	came := int64(len(c.tail))
	c.left = max(length-came, min(length, 0))
	switch {
	case length < 0:
		c.unsure = costOf(c.tail)
		c.tail = nil
	case came > length:
		c.tail = c.tail[length:]
	default:
		c.tail = nil
	}
}

// costOf returns what a header costs at most.
func costOf(text []byte) int { return len(text) + fieldCost*bytes.Count(text, []byte{'\n'}) }

// A requestBody notes its end: the caller has nothing more to send, and must not be taken for
// one that is waited for.
type requestBody struct {
	io.ReadCloser

	of *conn
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.of.enter(serving)
	}
	return n, err
}

// State is for [http.Server.ConnState].
func (l *Listener) State(connection net.Conn, state http.ConnState) {
	if c, ok := connection.(*conn); ok && state == http.StateIdle {
		c.enter(header)
		ahead := c.tail
		c.tail = nil
		if c.overfull = !c.scan(ahead); c.overfull {
			c.ended = true // nothing more is counted
			l.afford(c, costOf(ahead))
		}
	}
}

// enter changes the phase, and with it the place among those that wait.
func (c *conn) enter(next phase) {
	if c.phaseNow() == next && next != header {
		return
	}
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	last := phase(c.phase.Swap(int32(next)))
	if !c.of.conns[c] {
		return
	}
	c.waitsForBody(next == body)
	if !c.used && next != header {
		c.used = true
		c.of.used++
		c.of.limitUsed()
	}
	switch next {
	case header:
		c.fields, c.size, c.blank, c.ended = 0, 0, false, false
		c.of.charge(c, c.unsure)
		c.unsure = 0
		c.remove()
		c.of.push(c)
	case body:
		c.remove() // it waits from now on, however long it was idle
		c.of.push(c)
		c.of.limitBodies()
	case serving:
		if last == body && c.of.draining.Load() != nil {
			_ = c.SetReadDeadline(time.Time{}) // its caller may take longer to leave than to send
		}
		c.remove()
	}
}

// waitsForBody notes whether the connection waits for the rest of a body. The lock is held.
func (c *conn) waitsForBody(waits bool) {
	switch {
	case waits && !c.bodyDue:
		c.of.bodies++
	case !waits && c.bodyDue:
		c.of.bodies--
	}
	c.bodyDue = waits
}

// mayBegin is how many connections may wait for the rest of a body, or to have a response read.
func (l *Listener) mayBegin() int { return max(l.config.Limit/shareBegun, minBegun) }

// limitWrites closes connections whose callers have taken nothing of a response for a while, where too
// many responses are being written. It looks through all connections, and so once in a while.
func (l *Listener) limitWrites() {
	now := time.Now()
	last := l.looked.Load()
	if now.UnixNano()-last < int64(writeGrace/10) || !l.looked.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.mayBegin()
	since := now.Add(-writeGrace).UnixNano()
	excess := int(l.writes.Load()) - (limit - limit/8)
	for c := range l.conns {
		if excess <= 0 {
			return
		}
		if began := c.writing.Load(); began != 0 && began < since {
			l.shed.Inc()
			l.drop(c)
			excess--
		}
	}
}

// limitBodies closes the connections that have been waiting longest for the rest of a body, where too
// many do: several at a time, since it looks through all that wait. The lock is held.
func (l *Listener) limitBodies() {
	limit := l.mayBegin()
	if l.bodies > limit {
		l.shedWhile(func() bool { return l.bodies > limit-limit/8 }, func(c *conn) bool { return c.bodyDue })
	}
}

// limitUsed closes the connections that have been idle longest since a request, where too many
// have had one. The lock is held.
func (l *Listener) limitUsed() {
	limit := max(l.config.Limit/shareUsed, minBegun)
	if l.used > limit {
		l.shedWhile(func() bool { return l.used > limit-limit/16 }, func(c *conn) bool { return c.used && c.phaseNow() == header })
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	// Behind a header, a read of one byte may be net/http's own, which watches for the caller to
	// leave, beside everything else. Within one it is the last room in its buffer.
	if len(p) == 1 && (c.ended || c.phaseNow() != header) {
		return c.Conn.Read(p)
	}
	if end := c.of.draining.Load(); end != nil {
		_ = c.SetReadDeadline(*end)
	}
	if len(p) > 1 {
		c.tail = nil // net/http moves what is in its buffer, to have room
	}
	if c.phaseNow() == body {
		return c.readBody(p)
	}
	n, err := c.Conn.Read(p)
	if n > 0 && c.phaseNow() == header && (c.overfull || !c.ended && !c.scan(p[:n])) {
		return 0, c.refuse(p)
	}
	return n, err
}

// readBody reads little beyond a body: the next header is not counted there.
func (c *conn) readBody(p []byte) (int, error) {
	if c.left < 0 {
		n, err := c.Conn.Read(p[:min(len(p), chunkedRead)])
		c.unsure = costOf(p[:n])
		return n, err
	}
	if c.left > 0 {
		p = p[:min(int64(len(p)), c.left)]
	}
	n, err := c.Conn.Read(p)
	c.left = max(c.left-int64(n), 0)
	return n, err
}

// remove takes the connection out of the ring. The lock is held.
func (c *conn) remove() {
	if c.before != nil {
		c.before.after, c.after.before = c.after, c.before
		c.before, c.after = nil, nil
	}
}

// scan counts the fields of a header up to the empty line at its end, and reports whether
// there are not too many.
func (c *conn) scan(p []byte) bool {
	for len(p) > 0 {
		at := bytes.IndexByte(p, '\n')
		line := p
		if at >= 0 {
			line = p[:at]
		}
		c.size += len(line) + 1
		content := len(bytes.TrimSuffix(line, []byte{'\r'}))
		if at < 0 {
			c.blank = c.blank && content == 0
			break
		}
		if c.blank && content == 0 && c.fields > 0 {
			c.ended = true // what follows is a body, or another request's header
			if rest := p[at+1:]; len(rest) > 0 {
				c.tail = rest
			}
			break
		}
		if c.fields++; c.fields > maxFields {
			return false
		}
		c.blank = true
		p = p[at+1:]
	}
	if cost := c.size + fieldCost*c.fields; cost > freeCost {
		c.of.afford(c, cost)
	}
	return true
}

// refuse answers a header with too many fields as net/http does one that is too large. It reads on
// into a buffer that there is: one more for each connection would cost as much as all the rest of it.
func (c *conn) refuse(buffer []byte) error {
	const response = "HTTP/1.1 " + tooManyFields + "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" + tooManyFields
	_, _ = io.WriteString(c, response)
	if c.CloseWrite() == nil {
		// Unread bytes would have the kernel reset the connection, and the response with it.
		_ = c.SetReadDeadline(time.Now().Add(refuseTimeout))
		for left := refuseBytes; left > 0; {
			n, err := c.Conn.Read(buffer)
			if err != nil {
				break
			}
			left -= n
		}
	}
	return errTooManyFields
}

const tooManyFields = "431 Request Header Fields Too Large"

// errTooManyFields reads to net/http like the end of the connection, to which it has
// nothing to say.
var errTooManyFields = &net.OpError{Op: "read", Err: errors.New("too many header fields")}

// Write implements net.Conn. It goes on for as long as the caller takes chunk after chunk
// in time.
func (c *conn) Write(p []byte) (int, error) {
	if c.phaseNow() == header {
		c.refused(p)
	}
	written := 0
	defer func() {
		c.writing.Store(0)
		c.of.writes.Add(-1)
	}()
	if c.of.writes.Add(1) > int64(c.of.mayBegin()) {
		c.of.limitWrites()
	}
	for {
		chunk := p[written:min(len(p), written+writeChunk)]
		timeout := writeTimeout
		if c.of.draining.Load() != nil {
			timeout = drainTimeout
		}
		now := time.Now()
		c.writing.Store(now.UnixNano())
		_ = c.Conn.SetWriteDeadline(now.Add(timeout))
		n, err := c.Conn.Write(chunk)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// refused counts a response to what never became a request.
func (c *conn) refused(response []byte) {
	const before = "HTTP/1.1 "
	if len(response) < len(before)+3 || string(response[:len(before)]) != before {
		return
	}
	status := 0
	for _, digit := range response[len(before) : len(before)+3] {
		status = 10*status + int(digit-'0')
	}
	c.of.config.Refused(status)
}

// SetWriteDeadline does nothing: writes have deadlines of their own.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// CloseWrite is what net/http looks for, so that a caller gets the response to a request
// that it is still sending.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	c.of.forget(c)
	if c.dropped {
		c.dropped = false
		c.of.closing--
		select {
		case c.of.closed <- struct{}{}:
		default:
		}
	}
	c.of.mu.Unlock()
	return c.Conn.Close()
}
