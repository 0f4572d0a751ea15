package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"coffeebuddy/events"
)

// A response is what Slack gets for one request, and how the request is counted.
type response struct {
	kind       kind // "" for the route's kind
	outcome    outcome
	status     int
	message    message
	code       string        // error code, from a closed list
	retryAfter time.Duration // 0 for none
}

// malformed is the response to requests that no retry can fix.
func malformed(status int) response {
	return response{outcome: rejected, status: status, code: "malformed"}
}

// statusOf maps an outcome to the status that Slack gets; nothing else does. Slack sends an event
// again after any status but 200, and shows the user of a command or a click that it failed.
func statusOf(o events.Outcome) int {
	switch o {
	case events.Accepted, events.Duplicate, events.UnknownType: // done, running, or pointless to send again
		return http.StatusOK
	case events.Malformed:
		return http.StatusBadRequest
	case events.Rejected, events.Mismatch, events.Unauthorized:
		return http.StatusUnprocessableEntity
	case events.Overloaded, events.Retry, events.Timeout, events.Abandoned:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// responseFor returns the response for a verdict that arrived in time.
func (a *App) responseFor(ctx context.Context, d *delivery, v events.Verdict) response {
	status, code := statusOf(v.Outcome), string(v.Outcome)
	switch v.Outcome {
	case events.Accepted:
		return a.accepted(ctx, d, v)
	case events.Duplicate:
		return a.again(ctx, d, v)
	case events.Malformed:
		return malformed(status)
	case events.UnknownType, events.Rejected, events.Mismatch:
		// A retry cannot help: Slack would send the event again and count it as a failure of the
		// app.
		refused := response{outcome: rejected, status: http.StatusOK}
		switch {
		case d.kind == command:
			refused.message = d.apology(v)
		case d.kind == interaction && status != http.StatusOK:
			refused.status, refused.code = status, code
		}
		return refused
	}
	a.failed(ctx, d, v.Outcome)
	if d.kind == command {
		return response{outcome: unavailable, status: http.StatusOK, message: d.apology(v)}
	}
	return response{outcome: unavailable, status: status, code: code, retryAfter: v.RetryAfter}
}

// again returns the response to a duplicate. If the response is the reply, a duplicate gets the
// first request's response, or a 503 while the first is still running.
func (a *App) again(ctx context.Context, d *delivery, v events.Verdict) response {
	switch {
	case !d.waits:
		return response{outcome: duplicate, status: http.StatusOK}
	case v.First == "":
		return response{outcome: duplicate, status: http.StatusServiceUnavailable, code: string(v.Outcome)}
	}
	v.Outcome = v.First
	kept := a.responseFor(ctx, d, v)
	kept.outcome = duplicate
	return kept
}

// accepted returns the response for a request that a receiver accepted in time.
func (a *App) accepted(ctx context.Context, d *delivery, v events.Verdict) response {
	message, err := d.reply(v)
	done := response{outcome: accepted, status: http.StatusOK}
	switch {
	case err != nil:
		return a.responseFor(ctx, d, events.Verdict{Outcome: events.Failed})
	case d.inResponse:
		done.message = message
	case message.body != nil: // Slack ignores the response to a click
		a.postLater(ctx, d, message)
	}
	return done
}

// postLater posts a message to the response_url after the response.
func (a *App) postLater(ctx context.Context, d *delivery, m message) {
	a.events.Go(ctx, "slack "+string(d.kind), func(ctx context.Context) error {
		return a.post(ctx, d.responseURL, m)
	}, events.Within(respondTimeout))
}

// respond tells Slack the result of a request that was acknowledged earlier.
func (a *App) respond(ctx context.Context, d *delivery, v events.Verdict) error {
	if v.Outcome == events.Duplicate {
		return nil // the first request has told the user, or will
	}
	message, err := d.reply(v)
	switch {
	case err == nil && (message.body == nil || d.waits && !message.isPosted()):
		return nil
	case err == nil:
		return a.post(ctx, d.responseURL, message)
	case d.reads:
		return nil // the receiver was canceled
	}
	a.failed(ctx, d, v.Outcome)
	if d.responseURL == "" {
		return err
	}
	return errors.Join(err, a.post(ctx, d.responseURL, d.apology(v)))
}

// reply returns the receiver's reply if it accepted the event. Replies to Events API deliveries are
// discarded.
func (d *delivery) reply(v events.Verdict) (message, error) {
	switch {
	case v.Outcome != events.Accepted:
		return message{}, fmt.Errorf("the receiver failed: %s", v.Outcome)
	case d.kind == deliveredEvent:
		return message{}, nil
	}
	return messageOf(v.Reply)
}

// failed logs a failure that the response's status may hide.
func (a *App) failed(ctx context.Context, d *delivery, outcome events.Outcome) {
	a.events.Log().LogAttrs(ctx, slog.LevelWarn, "a receiver of Slack's failed",
		slog.String("kind", string(d.kind)), slog.String("outcome", string(outcome)))
}

// apology is the message to a user whose request was not accepted.
func (d *delivery) apology(v events.Verdict) message {
	switch {
	case d.unregistered:
		return words("Sorry, I do not know that command.")
	case v.Outcome == events.Rejected:
		return words("Sorry, I cannot do that.")
	case v.Outcome == events.Retry:
		return words("Sorry, I cannot do that right now. Please try again in a moment.")
	}
	return words("Sorry, something went wrong. Please try again.")
}

// send writes the response. Nothing from the request is echoed, except a challenge.
func (r response) send(w http.ResponseWriter) {
	said, header := r.message, w.Header()
	if r.code != "" {
		said = message{jsonType, []byte(`{"error":"` + r.code + `"}` + "\n")}
	}
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(said.body))) // so that an early flush does not force chunked encoding
	if said.contentType != "" {
		header.Set("Content-Type", said.contentType)
	}
	if r.retryAfter > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((r.retryAfter-1)/time.Second)+1, 10))
	}
	if r.code == "malformed" {
		header.Set("X-Slack-No-Retry", "1")
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(said.body) // a client that disconnected gets no response
}
