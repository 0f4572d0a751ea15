package slack

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"coffeebuddy/events"
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"

	// bodyLimit is the size of the largest body, in bytes. Slack's largest known payload,
	// a view of 250 kB, is under 750 kB in a form.
	bodyLimit = 1 << 20

	// bodyTimeout is how long a body may take to come: Slack has given up by then.
	bodyTimeout = 3 * time.Second
)

// A request is one of Slack's, verified.
type request struct {
	header    http.Header
	signature signature
	body      []byte
}

// route serves one of Slack's routes: understand makes a delivery of a request, or
// returns an error for one that is malformed.
func (a *App) route(kind kind, mediaType string, understand func(request) (*delivery, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := a.receive(w, r, mediaType, understand)
		if answer.kind == "" {
			answer.kind = kind
		}
		a.requests.each[answer.kind][answer.outcome].Inc()
		answer.send(w)
	})
}

// receive bounds, verifies and understands a request, in this order, and then has it
// delivered. Up to the signature nothing is believed, and nothing after it is asked of
// who did not sign.
func (a *App) receive(w http.ResponseWriter, r *http.Request, mediaType string, understand func(request) (*delivery, error)) answer {
	began := time.Now()
	slot := a.events.Enter()
	if slot == nil {
		return answer{outcome: unavailable, status: http.StatusServiceUnavailable, word: "overloaded", retryAfter: time.Second}
	}
	defer slot.Leave()
	body, err := readBody(w, r)
	if err != nil {
		return unread(err)
	}
	ours := isOf(r.Header, mediaType)
	if ours && mediaType == formType && isSSLCheck(body) {
		return answer{kind: unknown, outcome: accepted, status: http.StatusOK}
	}
	signature, ok := signatureOf(r.Header, time.Now())
	if !ok {
		return unverified(errUnsigned)
	}
	if err := a.secrets.verify(r.Context(), signature, body); err != nil {
		return unverified(err)
	}
	if !ours {
		return malformed(http.StatusUnsupportedMediaType)
	}
	d, err := understand(request{r.Header, signature, body})
	switch {
	case err != nil:
		return malformed(http.StatusBadRequest)
	case d.challenge != "":
		return answer{
			kind: unknown, outcome: accepted, status: http.StatusOK,
			message: message{"text/plain; charset=utf-8", []byte(d.challenge)},
		}
	}
	return a.deliver(r.Context(), slot, d, began.Add(a.config.AckAfter))
}

// deliver hands an event to its receiver, and answers by a time, whether the receiver
// is done or not. One that is not goes on as a task.
func (a *App) deliver(ctx context.Context, slot *events.Slot, d *delivery, by time.Time) answer {
	// That Slack hangs up ends nothing: what was asked for is done.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.Timeout)
	verdict := slot.Start(work, d.event, d.option)
	patience := time.NewTimer(time.Until(by))
	defer patience.Stop()
	select {
	case v := <-verdict:
		cancel()
		return a.answer(ctx, d, v)
	case <-patience.C:
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
	return answer{outcome: acknowledgedFor, status: http.StatusOK}
}

// readBody reads the whole body, within its limits of size and time.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > bodyLimit {
		return nil, new(http.MaxBytesError)
	}
	// Where the connection has no deadlines, in a test, the body is there already.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	return io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
}

// unread is the answer to a body that did not come.
func unread(err error) answer {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return malformed(http.StatusRequestEntityTooLarge)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return answer{outcome: rejected, status: http.StatusRequestTimeout, word: "timeout"}
	}
	return malformed(http.StatusBadRequest)
}

// unverified is the answer to who cannot be believed: one and the same, whatever is
// wrong with the signature.
func unverified(err error) answer {
	if errors.Is(err, errNoSecret) {
		return answer{outcome: unavailable, status: http.StatusServiceUnavailable, word: "unavailable", retryAfter: retryPause}
	}
	return answer{outcome: unsigned, status: http.StatusUnauthorized, word: "unsigned"}
}

// isOf reports whether a body is of a media type, in UTF-8 and not compressed.
func isOf(header http.Header, want string) bool {
	for _, coding := range header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return false
		}
	}
	if len(header["Content-Type"]) != 1 {
		return false // which of them counts differs from reader to reader
	}
	mediaType, parameters, err := mime.ParseMediaType(header["Content-Type"][0])
	charset, given := parameters["charset"]
	return err == nil && mediaType == want && (!given || strings.EqualFold(charset, "utf-8"))
}

// isSSLCheck reports whether a form is Slack's test of the route's certificate, which
// is not always signed. It is answered, and nothing else in it is looked at.
func isSSLCheck(body []byte) bool {
	if !strings.Contains(string(body), "ssl_check=1") {
		return false
	}
	form, err := url.ParseQuery(string(body))
	return err == nil && len(form["ssl_check"]) == 1 && form["ssl_check"][0] == "1"
}
