package handler

import (
	"net/http"
	"strconv"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/events/binding"
)

// An answer is the response to one event.
type answer struct {
	status    int
	verdict   events.Verdict
	challenge string // WWW-Authenticate, "" for none
	plain     bool   // the sender sent plain JSON, and gets the data of a reply alone
}

// answerOf returns the answer that is a verdict.
func answerOf(v events.Verdict) answer {
	status := statusOf(v.Outcome)
	if v.Outcome == events.Duplicate && v.First != "" {
		status = statusOf(v.First)
	}
	if status == http.StatusNoContent && v.Reply != nil {
		status = http.StatusOK
	}
	return answer{status: status, verdict: v}
}

// statusOf is the one place where an outcome becomes a status. Knative's brokers retry 404,
// 408, 409, 429 and 5xx, and send everything else to the dead-letter sink.
func statusOf(outcome events.Outcome) int {
	switch outcome {
	case events.Accepted:
		return http.StatusNoContent
	case events.Duplicate: // whose receiver is still running
		return http.StatusConflict
	case events.Malformed:
		return http.StatusBadRequest
	case events.Unauthorized:
		return http.StatusUnauthorized
	case events.UnknownType, events.Rejected, events.Mismatch:
		return http.StatusUnprocessableEntity
	case events.Overloaded, events.Retry, events.Timeout, events.Abandoned:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// clientLeft is the code, in the counter and the log line, of a request whose client left before
// it was answered. Proxies use it since nginx did; no client sees it.
const clientLeft = 499

// sendTo writes an answer to an event. A 204 has nothing that looks like an event: a broker
// would take that for a reply.
func (a answer) sendTo(w *response) {
	if w.Traceparent != "" {
		w.Header()["Traceparent"] = []string{w.Traceparent}
	}
	if a.status >= http.StatusBadRequest {
		a.sendError(w)
		if a.verdict.Outcome == events.Abandoned {
			w.code = clientLeft // but a sender who only closed its side for writing gets the 503
		}
		return
	}
	if a.verdict.Outcome == events.Duplicate {
		w.Header()["Idempotent-Replayed"] = []string{"true"}
	}
	reply := a.verdict.Reply
	if reply == nil {
		w.WriteHeader(a.status)
		return
	}
	var header map[string][]string
	if a.plain {
		header = map[string][]string{"Content-Type": {reply.DataContentType()}}
	} else {
		header = binding.Encode(*reply)
	}
	write(w, a.status, header, reply.Data())
}

// sendError writes an error in its one shape. Both of its values are from closed
// lists: nothing that came in goes out.
func (a answer) sendError(w http.ResponseWriter) {
	header := healthHeader()
	if after := a.verdict.RetryAfter; after > 0 {
		header["Retry-After"] = []string{strconv.FormatInt(int64((after-1)/time.Second)+1, 10)}
	}
	if a.challenge != "" {
		header["Www-Authenticate"] = []string{a.challenge}
	}
	body := `{"error":"` + string(a.verdict.Outcome) + `"`
	if a.verdict.Attribute != "" {
		body += `,"attribute":"` + a.verdict.Attribute + `"`
	}
	write(w, a.status, header, []byte(body+"}\n"))
}
