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

// An answer is what Slack gets for one request, and how it is counted.
type answer struct {
	kind       kind // "" for that of the route
	outcome    outcome
	status     int
	message    message
	word       string        // of an error, from a closed list
	retryAfter time.Duration // 0 for none
}

// malformed is the response to requests that no retry can fix.
func malformed(status int) answer {
	return answer{outcome: rejected, status: status, word: "malformed"}
}

// statusOf is the one place where an outcome becomes a status for Slack, which sends an event
// again after any status but 200, and shows a user of a command or a click that it failed.
func statusOf(o events.Outcome) int {
	switch o {
	case events.Accepted, events.Duplicate, events.UnknownType: // done, under way, or of no use to send again
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

// answer returns Slack's response for a verdict that came in time.
func (a *App) answer(ctx context.Context, d *delivery, v events.Verdict) answer {
	status, code := statusOf(v.Outcome), string(v.Outcome)
	switch v.Outcome {
	case events.Accepted:
		return a.accepted(ctx, d, v)
	case events.Duplicate:
		return a.again(ctx, d, v)
	case events.Malformed:
		return malformed(status)
	case events.UnknownType, events.Rejected, events.Mismatch:
		// No retry helps. Slack would send an event again, and count it against us.
		refused := answer{outcome: rejected, status: http.StatusOK}
		switch {
		case d.kind == command:
			refused.message = d.apology(v)
		case d.kind == interaction && status != http.StatusOK:
			refused.status, refused.word = status, code
		}
		return refused
	}
	a.failed(ctx, d, v.Outcome)
	if d.kind == command {
		return answer{outcome: unavailable, status: http.StatusOK, message: d.apology(v)}
	}
	return answer{outcome: unavailable, status: status, word: code, retryAfter: v.RetryAfter}
}

// again is the answer to a duplicate. Where the response is the reply, it is what the first
// one got, and none while that runs.
func (a *App) again(ctx context.Context, d *delivery, v events.Verdict) answer {
	switch {
	case !d.waits:
		return answer{outcome: duplicate, status: http.StatusOK}
	case v.First == "":
		return answer{outcome: duplicate, status: http.StatusServiceUnavailable, word: string(v.Outcome)}
	}
	v.Outcome = v.First
	kept := a.answer(ctx, d, v)
	kept.outcome = duplicate
	return kept
}

// accepted is the answer to what a receiver accepted in time.
func (a *App) accepted(ctx context.Context, d *delivery, v events.Verdict) answer {
	message, err := d.reply(v)
	done := answer{outcome: accepted, status: http.StatusOK}
	switch {
	case err != nil:
		return a.answer(ctx, d, events.Verdict{Outcome: events.Failed})
	case d.inAnswer:
		done.message = message
	case message.body != nil: // Slack reads no answer to a click
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

// respond tells Slack what became of a request that was acknowledged before.
func (a *App) respond(ctx context.Context, d *delivery, v events.Verdict) error {
	message, err := d.reply(v)
	switch {
	case err == nil && (message.body == nil || d.waits && !message.isPosted()):
		return nil
	case err == nil:
		return a.post(ctx, d.responseURL, message)
	case d.reads:
		return nil // it was cut off
	}
	a.failed(ctx, d, v.Outcome)
	if d.responseURL == "" {
		return err
	}
	return errors.Join(err, a.post(ctx, d.responseURL, d.apology(v)))
}

// reply returns the reply of a receiver that accepted. Replies to Events API deliveries are
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

// failed logs what the status of the answer does not say.
func (a *App) failed(ctx context.Context, d *delivery, outcome events.Outcome) {
	a.events.Log().LogAttrs(ctx, slog.LevelWarn, "a receiver of Slack's failed",
		slog.String("kind", string(d.kind)), slog.String("outcome", string(outcome)))
}

// apology is the message to a user whose request was not accepted.
func (d *delivery) apology(v events.Verdict) message {
	switch {
	case d.nobodys:
		return words("Sorry, I do not know that command.")
	case v.Outcome == events.Rejected:
		return words("Sorry, I cannot do that.")
	case v.Outcome == events.Retry:
		return words("Sorry, I cannot do that right now. Please try again in a moment.")
	}
	return words("Sorry, something went wrong. Please try again.")
}

// send writes an answer. Nothing that came in goes out, but for a challenge.
func (a answer) send(w http.ResponseWriter) {
	said, header := a.message, w.Header()
	if a.word != "" {
		said = message{jsonType, []byte(`{"error":"` + a.word + `"}` + "\n")}
	}
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(said.body))) // it may be flushed before the end
	if said.contentType != "" {
		header.Set("Content-Type", said.contentType)
	}
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((a.retryAfter-1)/time.Second)+1, 10))
	}
	if a.word == "malformed" {
		header.Set("X-Slack-No-Retry", "1")
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(said.body) // a client that disconnected gets no response
}
