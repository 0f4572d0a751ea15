package handlertest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler/handlertest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// on returns a feature of one receiver.
func on(receive events.Receiver, options ...events.Option) func(*events.Events) error {
	return func(h *events.Events) error { return h.On("coffee.ordered", receive, options...) }
}

func TestWhatABrokerDoes(t *testing.T) {
	t.Parallel()
	var (
		err   = errors.New("the machine is off")
		reply = handlertest.Event("coffee.served", "")
	)
	for _, test := range []struct {
		when     string
		reply    *event.Event
		err      error
		attempts int
		dead     string // knativeerrorcode
	}{
		{"accepted", nil, nil, 1, ""},
		{"a reply", &reply, nil, 1, ""},
		{"refused for good", nil, events.Permanent(err), 1, "422"},
		{"to come back", nil, events.RetryAfter(time.Minute, err), 11, "503"},
		{"failed", nil, err, 11, "500"},
	} {
		t.Run(test.when, func(t *testing.T) {
			is := is.New(t)
			f := handlertest.New(t, on(func(context.Context, event.Event) (*event.Event, error) { return test.reply, test.err }))
			d := f.Deliver(handlertest.Event("coffee.ordered", `{"drink":"espresso"}`))
			is.Equal(len(d.Attempts), test.attempts)
			is.Equal(d.Reply != nil, test.reply != nil)
			is.Equal(d.DeadLetter != nil, test.dead != "")
			if d.DeadLetter != nil {
				is.Equal(d.DeadLetter.Extensions()["knativeerrorcode"], test.dead)
				is.Equal(string(d.DeadLetter.Data()), `{"drink":"espresso"}`)
			}
		})
	}
}

func TestPoisonIsNeverRetried(t *testing.T) {
	t.Parallel()
	f := handlertest.New(t)
	poison := func(change func(*event.Event)) event.Event {
		e := handlertest.Event("boson.fn", "{}")
		change(&e)
		return e
	}
	for when, e := range map[string]event.Event{
		"no type":         poison(func(e *event.Event) { e.Context.(*event.EventContextV1).Type = "" }),
		"no id":           poison(func(e *event.Event) { e.Context.(*event.EventContextV1).ID = "" }),
		"a control":       poison(func(e *event.Event) { e.SetSubject("\x00") }),
		"JSON that is no": poison(func(e *event.Event) { e.DataEncoded = []byte("{") }),
		"an old version":  poison(func(e *event.Event) { e.SetSpecVersion("0.3"); e.SetID("1"); e.SetSource("/s"); e.SetType("boson.fn") }),
		"nobody's type":   poison(func(e *event.Event) { e.SetType("coffee.spilt") }),
		"Slack's type":    poison(func(e *event.Event) { e.SetType("com.slack.command") }),
		"too large":       poison(func(e *event.Event) { e.DataEncoded = []byte(`"` + strings.Repeat("x", 1<<20) + `"`) }),
	} {
		t.Run(when, func(t *testing.T) {
			is := is.New(t)
			d := f.Deliver(e)
			is.Equal(len(d.Attempts), 1)
			is.True(d.Status() >= 400 && d.Status() < 500)
			is.True(d.DeadLetter != nil)
		})
	}
}

// TestEventsComeAsTheyWereSent, with all that an event can have, there and back.
func TestEventsComeAsTheyWereSent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	sent := handlertest.Event("coffee.ordered", `{"drink":"café ☕"}`)
	sent.SetID(`a "b" 100% %41 ☕`)
	sent.SetSource("urn:a?b#c")
	sent.SetSubject(`"quoted" \ é`)
	sent.SetDataSchema("http://example.com/schema")
	sent.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC))
	sent.SetExtension("strength", "7")
	var got event.Event
	f := handlertest.New(t, on(func(_ context.Context, e event.Event) (*event.Event, error) {
		got = e
		return &e, nil
	}))
	d := f.Deliver(sent)
	is.Equal(got.String(), sent.String())
	is.Equal(d.Reply.String(), sent.String())
}

// TestTasksAreWaitedFor, by the test and once more when it ends.
func TestTasksAreWaitedFor(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	told := make(chan string, 1)
	f := handlertest.New(t, func(h *events.Events) error {
		return h.On("coffee.ordered", func(ctx context.Context, e event.Event) (*event.Event, error) {
			h.Go(ctx, "tell the kitchen", func(ctx context.Context) error {
				h.Log().InfoContext(ctx, "told")
				told <- string(e.Data())
				return nil
			})
			return nil, nil
		})
	})
	is.Equal(f.Send(handlertest.Event("coffee.ordered", `"espresso"`)).Status, 204)
	is.NoErr(f.Wait(t.Context()))
	is.Equal(<-told, `"espresso"`)
	is.True(strings.Contains(f.Logs(), `"msg":"told","request_id":`))
}

func TestBrokerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		var effects atomic.Int64
		f := handlertest.New(t, on(func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(15 * time.Second) // past its deadline of ten
			effects.Add(1)
			return nil, nil
		}, events.Deduplicate(time.Hour)))
		began := time.Now()
		d := handlertest.Broker{To: f, Sleep: time.Sleep}.Deliver(handlertest.Event("coffee.ordered", ""))
		var statuses []int
		for _, a := range d.Attempts {
			statuses = append(statuses, a.Status)
		}
		is.Equal(statuses, []int{503, 409, 409, 409, 409, 204}) // after 10, 10.2, 10.6, 11.4, 13 and 16.2 s
		is.Equal(time.Since(began), 16200*time.Millisecond)
		is.Equal(effects.Load(), int64(1))
	})
}

func TestBrokersTable(t *testing.T) {
	t.Parallel()
	for status, attempts := range map[int]int{
		200: 1, 201: 1, 202: 1, 204: 1, 301: 1, 400: 1, 401: 1, 403: 1, 405: 1, 410: 1, 413: 1, 415: 1, 422: 1,
		404: 3, 408: 3, 409: 3, 429: 3, 500: 3, 502: 3, 503: 3, 504: 3,
	} {
		is := is.New(t)
		to := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
		})
		d := handlertest.Broker{To: to, Retries: 2, Backoff: 5 * time.Second}.Deliver(handlertest.Event("coffee.ordered", ""))
		is.Equal(len(d.Attempts), attempts)
		is.Equal(d.DeadLetter == nil, status < 300)
		if attempts > 1 {
			is.Equal(d.Pauses, []time.Duration{7 * time.Second, 10 * time.Second})
		}
	}
}

func TestBrokerTakesWhatLooksLikeAnEventForAReply(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	to := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Ce-Specversion", "1.0") })
	d := handlertest.Broker{To: to, Retries: -1}.Deliver(handlertest.Event("coffee.ordered", ""))
	is.True(d.Reply == nil)
	is.True(d.DeadLetter != nil) // a malformed reply is a failed delivery
}
