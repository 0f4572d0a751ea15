package slack

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"coffeebuddy/events"
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"

	// ReplyWithin is how long Slack waits for a receiver whose reply is the response, counted from
	// the request's headers. Slack gives up after 3 s; a gateway must wait longer than ReplyWithin.
	ReplyWithin = 2750 * time.Millisecond

	// handOffWithin is how long the sink may take to accept an event, counted from the request's
	// headers.
	handOffWithin = 2 * time.Second

	// handOffLimit is the size of the largest data that is handed to the sink, in bytes. The event
	// returns to POST /, which takes 1 MiB; in structured mode the attributes count too.
	handOffLimit = 1<<20 - 4<<10
)

// A request is a verified request from Slack.
type request struct {
	header    http.Header
	signature signature
	body      []byte
}

// A route is one of the routes that Slack calls.
type route struct {
	kind       kind
	mediaType  string
	limit      int64                            // size of the largest body
	understand func(request) (*delivery, error) // an error if the request is malformed
}

// serve returns the handler of a route.
func (a *App) serve(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		response := a.receive(w, r, route)
		if response.kind == "" {
			response.kind = route.kind
		}
		a.requests.each[response.kind][response.outcome].Inc()
		response.send(w)
	})
}

// receive limits, verifies and parses a request, in this order, and then has it delivered. Nothing
// in the request is trusted until its signature is verified. A request that cannot be verified
// holds no slot, and its body is not read if the headers already tell.
func (a *App) receive(w http.ResponseWriter, r *http.Request, route route) response {
	began := time.Now()
	signature, ok := signatureOf(r.Header, began)
	switch {
	case !ok && mayBeSSLCheck(r, route):
		return a.sslCheck(w, r)
	case !ok:
		return unverified(errUnsigned)
	case a.slots.Full():
		return overloaded()
	}
	body, err := a.readBody(w, r, route.limit)
	if err != nil {
		return unread(err)
	}
	ours := isOf(r.Header, route.mediaType)
	if ours && route.mediaType == formType && isSSLCheck(body.Text) {
		body.Release()
		return sslChecked()
	}
	if err := a.secrets.verify(r.Context(), signature, body.Text); err != nil {
		body.Release()
		return unverified(err)
	}
	if !ours {
		body.Release()
		return malformed(http.StatusUnsupportedMediaType)
	}
	d, err := route.understand(request{r.Header, signature, body.Text})
	switch {
	case err != nil:
		body.Release()
		return malformed(http.StatusBadRequest)
	case d.challenge != "":
		body.Release()
		return response{
			kind: unknown, outcome: accepted, status: http.StatusOK,
			message: message{"text/plain; charset=utf-8", []byte(d.challenge)},
		}
	}
	d.done = body.Release
	return a.deliver(r.Context(), d, began)
}

// deliver passes an event to its receiver or to the sink, and responds in time, whether or not the
// receiver has finished.
func (a *App) deliver(ctx context.Context, d *delivery, began time.Time) response {
	slot := a.slots.Enter()
	if slot == nil {
		d.done()
		return overloaded()
	}
	slot.After(d.done)
	defer slot.Leave()
	switch {
	case d.durable && len(d.event.Data()) <= handOffLimit:
		return a.handOff(ctx, d, began.Add(handOffWithin))
	case d.durable: // it cannot be handed off, so it is acknowledged only when its receiver has finished
		d.waits = true
	}
	by := began.Add(a.config.AckAfter)
	if d.waits {
		by = began.Add(ReplyWithin)
	}
	// A disconnect by Slack cancels nothing: the request is carried out.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.Timeout)
	verdict := slot.Start(work, d.event, d.options...)
	timer := time.NewTimer(time.Until(by))
	defer timer.Stop()
	select {
	case v := <-verdict:
		cancel()
		return a.responseFor(ctx, d, v)
	case <-timer.C:
	}
	if d.reads { // no one will see its result
		cancel()
	}
	a.events.Go(ctx, "slack "+string(d.kind), func(ctx context.Context) error {
		defer cancel()
		select {
		case v := <-verdict:
			return a.respond(ctx, d, v)
		case <-ctx.Done():
			return ctx.Err()
		}
	}, events.Within(a.config.Timeout+respondTimeout))
	if d.waits {
		return response{outcome: unavailable, status: http.StatusServiceUnavailable, code: string(events.Timeout)}
	}
	return response{outcome: acknowledgedFor, status: http.StatusOK}
}

// overloaded returns the response when a concurrency limit is reached.
func overloaded() response {
	return response{outcome: unavailable, status: http.StatusServiceUnavailable, code: string(events.Overloaded), retryAfter: time.Second}
}

// unverified returns the response to an unverified request. It is the same whatever is wrong with
// the signature.
func unverified(err error) response {
	if errors.Is(err, errNoSecret) {
		return response{outcome: unavailable, status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: retryPause}
	}
	return response{outcome: unsigned, status: http.StatusUnauthorized, code: "unsigned"}
}

// isOf reports whether the headers declare a media type, in UTF-8 and uncompressed.
func isOf(header http.Header, want string) bool {
	for _, coding := range header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return false
		}
	}
	if len(header["Content-Type"]) != 1 {
		return false // implementations disagree on which one wins
	}
	mediaType, parameters, err := mime.ParseMediaType(header["Content-Type"][0])
	charset, given := parameters["charset"]
	return err == nil && mediaType == want && (!given || strings.EqualFold(charset, "utf-8"))
}

// mayBeSSLCheck reports whether an unsigned request may be Slack's test of the route's
// certificate, which is not always signed.
func mayBeSSLCheck(r *http.Request, route route) bool {
	return route.mediaType == formType && isOf(r.Header, formType) && r.ContentLength > 0 && r.ContentLength <= sslCheckLimit
}

// sslCheck handles an unsigned request that is short enough to be read.
func (a *App) sslCheck(w http.ResponseWriter, r *http.Request) response {
	body, err := a.readBody(w, r, sslCheckLimit)
	if err != nil {
		return unread(err)
	}
	defer body.Release()
	if !isSSLCheck(body.Text) {
		return unverified(errUnsigned)
	}
	return sslChecked()
}

// sslChecked returns the response to Slack's test of a route. Everything else in the request is
// ignored.
func sslChecked() response {
	return response{kind: unknown, outcome: accepted, status: http.StatusOK}
}

// isSSLCheck reports whether a form is Slack's test of the route's certificate.
func isSSLCheck(body []byte) bool {
	const limit = 1 << 10 // the test is short; parsing a large unverified form would cost too much
	if len(body) > limit || !bytes.Contains(body, []byte("ssl_check=1")) {
		return false
	}
	form, err := url.ParseQuery(string(body))
	return err == nil && len(form["ssl_check"]) == 1 && form["ssl_check"][0] == "1"
}
