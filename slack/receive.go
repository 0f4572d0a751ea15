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

	// ReplyWithin is how long Slack is kept waiting for a receiver whose reply is the
	// response, from the request's headers. Slack itself gives up after 3 s, and a gateway
	// must wait longer than this.
	ReplyWithin = 2750 * time.Millisecond

	// handOffWithin is how long the sink may take to accept an event, from the request's
	// headers.
	handOffWithin = 2 * time.Second

	// handOffLimit is the size of the largest data that is handed to the sink, in bytes:
	// what comes back to POST / may have 1 MiB, in structured mode with the attributes.
	handOffLimit = 1<<20 - 4<<10
)

// A request is one of Slack's, verified.
type request struct {
	header    http.Header
	signature signature
	body      []byte
}

// A route is one of Slack's.
type route struct {
	kind       kind
	mediaType  string
	limit      int64                            // size of the largest body
	understand func(request) (*delivery, error) // an error if the request is malformed
}

// serve returns the handler of a route.
func (a *App) serve(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := a.receive(w, r, route)
		if answer.kind == "" {
			answer.kind = route.kind
		}
		a.requests.each[answer.kind][answer.outcome].Inc()
		answer.send(w)
	})
}

// receive bounds, verifies and understands a request, in this order, and then has it
// delivered. Nothing in the request is trusted until its signature is verified. A request
// that cannot be verified holds no slot, and no body if its headers tell.
func (a *App) receive(w http.ResponseWriter, r *http.Request, route route) answer {
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
		return answer{
			kind: unknown, outcome: accepted, status: http.StatusOK,
			message: message{"text/plain; charset=utf-8", []byte(d.challenge)},
		}
	}
	d.done = body.Release
	return a.deliver(r.Context(), d, began)
}

// deliver hands an event to its receiver, or to the sink, and answers in time, whether the
// receiver is done or not.
func (a *App) deliver(ctx context.Context, d *delivery, began time.Time) answer {
	slot := a.slots.Enter()
	if slot == nil {
		d.done()
		return overloaded()
	}
	defer slot.Leave()
	switch {
	case d.durable && len(d.event.Data()) <= handOffLimit:
		defer d.done()
		return a.handOff(ctx, d, began.Add(handOffWithin))
	case d.durable: // nothing is acknowledged that could be lost, so only its receiver can say that it is done
		d.waits = true
	}
	by := began.Add(a.config.AckAfter)
	if d.waits {
		by = began.Add(ReplyWithin)
	}
	// That Slack hangs up ends nothing: what was asked for is done.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.Timeout)
	verdict := slot.Start(work, d.event, d.options...)
	patience := time.NewTimer(time.Until(by))
	defer patience.Stop()
	select {
	case v := <-verdict:
		cancel()
		d.done()
		return a.answer(ctx, d, v)
	case <-patience.C:
	}
	if d.reads { // nobody will see what it finds
		cancel()
	}
	a.events.Go(ctx, "slack "+string(d.kind), func(ctx context.Context) error {
		defer cancel()
		defer d.done()
		select {
		case v := <-verdict:
			return a.respond(ctx, d, v)
		case <-ctx.Done():
			return ctx.Err()
		}
	}, events.Within(a.config.Timeout+respondTimeout))
	if d.waits {
		return answer{outcome: unavailable, status: http.StatusServiceUnavailable, word: string(events.Timeout)}
	}
	return answer{outcome: acknowledgedFor, status: http.StatusOK}
}

// overloaded is the answer when a concurrency limit is reached.
func overloaded() answer {
	return answer{outcome: unavailable, status: http.StatusServiceUnavailable, word: string(events.Overloaded), retryAfter: time.Second}
}

// unverified is the answer to who cannot be believed: one and the same, whatever is
// wrong with the signature.
func unverified(err error) answer {
	if errors.Is(err, errNoSecret) {
		return answer{outcome: unavailable, status: http.StatusServiceUnavailable, word: "unavailable", retryAfter: retryPause}
	}
	return answer{outcome: unsigned, status: http.StatusUnauthorized, word: "unsigned"}
}

// isOf reports whether a body has a media type, is in UTF-8 and not compressed.
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

// sslCheck answers an unsigned request that is short enough to be read.
func (a *App) sslCheck(w http.ResponseWriter, r *http.Request) answer {
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

// sslChecked is the answer to Slack's test of a route. Nothing else in it is looked at.
func sslChecked() answer {
	return answer{kind: unknown, outcome: accepted, status: http.StatusOK}
}

// isSSLCheck reports whether a form is Slack's test of the route's certificate.
func isSSLCheck(body []byte) bool {
	const limit = 1 << 10 // it is short, and unverified: a large form would be parsed for anybody
	if len(body) > limit || !bytes.Contains(body, []byte("ssl_check=1")) {
		return false
	}
	form, err := url.ParseQuery(string(body))
	return err == nil && len(form["ssl_check"]) == 1 && form["ssl_check"][0] == "1"
}
