package handlertest

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Broker delivers events to a handler as Knative's do: it tries again after a status
// of 500 and above, 404, 408, 409 and 429, and after no other. What is refused for
// good, or is still refused after the last retry, goes to the dead-letter sink.
type Broker struct {
	To      http.Handler
	Retries int           // after the first attempt; 10 if 0, none if negative
	Backoff time.Duration // before the first retry, twice as long before each further one; 200 ms if 0

	// Sleep waits between attempts. Nil does not, and the pauses are only reported;
	// time.Sleep is for tests in a bubble of testing/synctest.
	Sleep func(time.Duration)
}

// A Delivery is what became of one event.
type Delivery struct {
	Attempts   []Answer        // one for each time that the event was sent
	Pauses     []time.Duration // before each attempt but the first
	Reply      *event.Event    // what the broker sends on, nil for nothing
	DeadLetter *event.Event    // what the dead-letter sink gets, nil for nothing
}

// Status returns the status of the last attempt.
func (d Delivery) Status() int { return d.Attempts[len(d.Attempts)-1].Status }

// Deliver delivers an event as a broker with Knative's usual settings does.
func (f *Function) Deliver(e event.Event) Delivery { return Broker{To: f}.Deliver(e) }

// Deliver delivers an event, and returns when it was accepted or given up.
func (b Broker) Deliver(e event.Event) Delivery {
	retries, pause := b.Retries, b.Backoff
	if retries == 0 {
		retries = 10
	}
	if pause == 0 {
		pause = 200 * time.Millisecond
	}
	var d Delivery
	for {
		a := send(b.To, e)
		d.Attempts = append(d.Attempts, a)
		switch {
		case a.Status >= 200 && a.Status < 300 && (a.Reply != nil || !looksLikeAnEvent(a.Header)):
			if a.Status != http.StatusAccepted { // whose body is no reply
				d.Reply = a.Reply
			}
			return d
		case !retried(a.Status) || len(d.Pauses) >= retries:
			d.DeadLetter = deadLetter(e, a)
			return d
		}
		wait := pause
		if after, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil {
			wait = max(wait, time.Duration(after)*time.Second)
		}
		pause *= 2
		d.Pauses = append(d.Pauses, wait)
		if b.Sleep != nil {
			b.Sleep(wait)
		}
	}
}

// retried reports whether Knative's brokers send an event again after a status.
func retried(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

// deadLetter returns an event as the dead-letter sink gets it: with the status and
// the body of the last answer.
func deadLetter(e event.Event, last Answer) *event.Event {
	letter := e.Clone()
	letter.SetExtension("knativeerrorcode", strconv.Itoa(last.Status))
	letter.SetExtension("knativeerrordata", base64.StdEncoding.EncodeToString(last.Body))
	return &letter
}
