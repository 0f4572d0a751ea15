package handler

import (
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"

	"coffeebuddy/events"
)

// A response is the response to one request on its connection, with what the request's log
// line needs. It is all that this package knows of how net/http treats connections:
//
//  1. A response is held back until the request's body has been read, up to 256 KiB of it,
//     which a sender may never send. EnableFullDuplex ends that (golang/go#15527).
//  2. With EnableFullDuplex an unread body is closed and not read, and the next request on the
//     connection would start within it. So a response to an unread body closes the connection.
//  3. A connection that is closed with bytes unread is reset, and a sender that is still
//     sending loses the response with it (golang/go#3595, golang/go#51109): broken pipe in
//     place of a 413. So what is left is read for a moment after the response.
//  4. Without a body, net/http watches for the sender to leave from the start, and a read
//     deadline ends that watch and with it the request's context, while the receiver works
//     (golang/go#18447, golang/go#70834). So a read deadline is only ever set for a body.
//  5. A response that fits into net/http's buffer of 2 KiB gets a Content-Length, unless it is
//     flushed before its end, which one with a body to read on is; any other is sent in chunks.
//     So whatever is known to be longer or flushed is sent with its length.
//  6. A response without a Content-Type is given one by its first bytes, unless the header is
//     there and nil (golang/go#31753). A broker would take it for the event's datacontenttype.
type response struct {
	http.ResponseWriter

	events.Correlation

	began    time.Time
	code     int          // 0 until a status was written
	body     *requestBody // of the request, nil if it has none
	event    eventName    // of an event that was understood
	early    bool         // it is flushed before its handler returns
	answered bool         // it was counted and logged

	principal string // whose token the request has, "" if that is not known
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(code int) {
	if w.code == 0 && code >= 200 {
		w.code = code
		if w.body != nil {
			w.body.readSmall()
			if !w.body.ended {
				w.Header().Set("Connection", "close") // fact 2
			}
		}
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// write is the one place that writes a response with a body: headers, then status, then body.
func write(w http.ResponseWriter, status int, header map[string][]string, body []byte) {
	const buffer = 2048 // fact 5
	maps.Copy(w.Header(), header)
	resp, ok := w.(*response)
	if flushed := ok && (resp.body != nil || resp.early); flushed || len(body) > buffer {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	if _, ok := header["Content-Type"]; !ok {
		w.Header()["Content-Type"] = nil // fact 6
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that disconnected gets no response
}

// An unrouted is a response until its route is found. The 404 and 405 that net/http writes where
// there is none go through write, which sends them with their length.
type unrouted response

// WriteHeader holds the status back until the body is there.
func (w *unrouted) WriteHeader(code int) { w.code = code }

func (w *unrouted) Write(b []byte) (int, error) {
	code := w.code
	w.code = 0
	write((*response)(w), code, w.Header(), b)
	return len(b), nil
}

// flush sends a response that was written while its handler runs on. Nothing more comes on its
// connection, which the handler keeps.
func (w *response) flush(send func(*response)) {
	w.early = true
	w.Header().Set("Connection", "close")
	send(w)
	_ = http.NewResponseController(w.ResponseWriter).Flush() // a client that disconnected gets no response
}

// A requestBody knows whether it has been read to its end.
type requestBody struct {
	io.ReadCloser

	connection http.ResponseWriter
	small      bool // announced, and sent without being asked for
	ended      bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// readSmall reads what is left of a small body, which has mostly come with its headers, so
// that it costs no connection.
func (b *requestBody) readSmall() {
	if !b.ended && b.small &&
		http.NewResponseController(b.connection).SetReadDeadline(time.Now().Add(5*time.Millisecond)) == nil {
		_, _ = io.Copy(io.Discard, b)
	}
}

// How long, and how much, is read after a response, for the sender to have it (fact 3).
const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// lingering is the outermost layer: it makes the response, and reads on after it where a body
// is left.
func lingering(w http.ResponseWriter, r *http.Request, next layer) {
	resp := &response{ResponseWriter: w, Correlation: events.Correlation{RequestID: requestID(r.Header)}}
	if values := r.Header["Traceparent"]; len(values) == 1 {
		resp.Traceparent = events.ValidTraceparent(values[0])
	}
	if r.ContentLength == 0 {
		next(resp, r)
		return
	}
	connection := http.NewResponseController(w)
	resp.body = &requestBody{
		ReadCloser: r.Body,
		connection: w,
		small:      r.ContentLength > 0 && r.ContentLength <= 64<<10 && len(r.Header["Expect"]) == 0,
	}
	r.Body = resp.body
	duplex := connection.EnableFullDuplex() == nil // fact 1; false in a test without a connection
	next(resp, r)
	if !duplex || resp.body.ended {
		return
	}
	if resp.code == 0 {
		resp.WriteHeader(http.StatusOK) // as net/http would, but with what goes with an unread body
	}
	if connection.Flush() != nil || connection.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, lingerBytes)
}
