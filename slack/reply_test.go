package slack_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/handler/handlertest"
	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// submitted is the payload of a view whose first input has a response_url.
const submitted = `{"type":"view_submission","view":{"callback_id":"order"},"response_urls":[` +
	`{"block_id":"b","response_url":"https://hooks.slack.com/app/1"},{"response_url":"https://hooks.slack.com/app/2"}]}`

// TestTheResponseIsTheReply checks that Slack gets an error if the reply is late: an empty 200
// would close the modal and discard the input, or show an empty menu. So Slack waits as long as it
// can.
func TestTheResponseIsTheReply(t *testing.T) {
	const hello, mistakes = `{"text":"hello"}`, `{"response_action":"errors","errors":{"b":"no"}}`
	for _, test := range []struct {
		when, payload string
		takes         time.Duration
		reply, post   string
	}{
		{"a modal, late but in time", submitted, 2700 * time.Millisecond, mistakes, ""},
		{"a dialog, late but in time", `{"type":"dialog_submission"}`, 2700 * time.Millisecond, mistakes, ""},
		{"a menu, late but in time", `{"type":"block_suggestion"}`, 2700 * time.Millisecond, `{"options":[]}`, ""},
		{"a dialog's menu, late but in time", `{"type":"dialog_suggestion"}`, 2700 * time.Millisecond, `{"options":[]}`, ""},
		{"a modal that is too late with a message", submitted, 10 * time.Second, hello, hello},
		{"a modal that is too late with errors", submitted, 10 * time.Second, mistakes, ""},
		{"a modal that is too late, without a response_url", submission, 10 * time.Second, mistakes, ""},
		{"a dialog that is too late with errors", `{"type":"dialog_submission","response_url":"https://hooks.slack.com/1"}`, 10 * time.Second, `{"errors":[]}`, ""},
		{"a dialog that is too late with a message", `{"type":"dialog_submission","response_url":"https://hooks.slack.com/1"}`, 10 * time.Second, hello, hello},
		{"a menu that is too late", `{"type":"block_suggestion"}`, 10 * time.Second, `{"options":[]}`, ""},
		{"a dialog's menu that is too late", `{"type":"dialog_suggestion"}`, 10 * time.Second, `{"options":[]}`, ""},
	} {
		t.Run(test.when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				var ended error
				var got record
				s := slacktest.New(t, got.features(func(ctx context.Context, _ event.Event) (*event.Event, error) {
					select {
					case <-time.After(test.takes):
						return replying(jsonType, test.reply), nil
					case <-ctx.Done():
						ended = ctx.Err()
						return nil, ended
					}
				}))
				began := time.Now()
				a := s.Interact(test.payload)
				if test.takes < slack.ReplyWithin {
					is.Equal(a.Status, 200)
					is.Equal(a.Body, test.reply)
					is.Equal(time.Since(began), test.takes)
					is.Equal(counts(t, s), map[string]int{"interaction accepted": 1})
				} else {
					is.Equal(a.Status, 503)
					is.Equal(a.Body, `{"error":"timeout"}`+"\n")
					is.Equal(time.Since(began), slack.ReplyWithin)
					is.Equal(counts(t, s), map[string]int{"interaction unavailable": 1})
				}
				is.NoErr(s.Wait(t.Context()))
				is.Equal(strings.Join(s.Posts(), ""), test.post)
				is.True(!strings.Contains(s.Logs(), "was lost"))
				cutOff := strings.Contains(test.payload, "suggestion") && a.Status == 503
				is.Equal(ended != nil, cutOff) // no one will see its result
			})
		})
	}
}

// TestLateFailureOfASubmission checks that a late failure is posted to the view's response_url.
func TestLateFailureOfASubmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		var got record
		s := slacktest.New(t, got.features(func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(10 * time.Second)
			return nil, errFailed
		}))
		is.Equal(s.Interact(submitted).Status, 503)
		is.NoErr(s.Wait(t.Context()))
		is.Equal(strings.Join(s.Posts(), ""), ephemeral(wrong))
	})
}

// A lateLedger takes its time to say that an event is a duplicate.
type lateLedger struct{ events.Ledger }

func (l lateLedger) Claim(ctx context.Context, r events.Request) (events.Claim, error) {
	claim, err := l.Ledger.Claim(ctx, r)
	if err != nil {
		time.Sleep(1900 * time.Millisecond)
	}
	return claim, err
}

// TestALateDuplicateSaysNothing checks that a duplicate that is acknowledged before it is known to
// be one posts no apology for a command that was carried out.
func TestALateDuplicateSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := handlertest.NewWith(t, func(e *events.Config, _ *handler.Config) { e.Ledger = lateLedger{events.NewMemory()} })
		posts := 0
		app, err := slack.New(f.Events.Events, slack.Config{
			Mount: f.Mount, Secret: func(context.Context, int) (string, int, error) { return slacktest.Secret, 1, nil },
			Transport: posting(func() { posts++ }),
		})
		is.NoErr(err)
		is.NoErr(app.Command("/tea", answering(slack.Ephemeral("ordered"), nil)))
		s := &slacktest.Slack{Function: f, App: app}
		is.True(strings.Contains(s.Command("/tea").Body, "ordered"))
		is.Equal(s.Command("/tea").Status, 200) // with the same signature, as the clock stands still
		is.NoErr(f.Wait(t.Context()))
		is.Equal(posts, 0)
	})
}

// posting is called for each message to Slack.
type posting func()

func (p posting) RoundTrip(*http.Request) (*http.Response, error) {
	p()
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// TestDuplicatesWhereTheResponseIsTheReply checks that a duplicate gets the first request's
// response.
func TestDuplicatesWhereTheResponseIsTheReply(t *testing.T) {
	const mistakes = `{"response_action":"errors","errors":{"b":"no"}}`
	for _, test := range []struct {
		when, payload string
		reply         *event.Event
		err           error
		status        int
		body          string
		runs          int
	}{
		{"a modal with errors stays open", submitted, replying(jsonType, mistakes), nil, 200, mistakes, 1},
		{"a dialog with errors stays open", `{"type":"dialog_submission"}`, replying(jsonType, mistakes), nil, 200, mistakes, 1},
		{"a modal that was accepted is accepted", submitted, nil, nil, 200, "", 1},
		{"a modal that was refused is refused", submitted, nil, events.Permanent(errFailed), 422, `{"error":"rejected"}` + "\n", 1},
		{"a modal that failed failed", submitted, nil, errFailed, 500, `{"error":"failed"}` + "\n", 1},
		{"a menu is read again", `{"type":"block_suggestion"}`, replying(jsonType, `{"options":[]}`), nil, 200, `{"options":[]}`, 3},
		{"a dialog's menu is read again", `{"type":"dialog_suggestion"}`, replying(jsonType, `{"options":[]}`), nil, 200, `{"options":[]}`, 3},
	} {
		t.Run(test.when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // its clock stands still, so all requests have one signature
				is := is.New(t)
				var got record
				s := slacktest.New(t, got.features(answering(test.reply, test.err)))
				for range 3 {
					a := s.Interact(test.payload)
					is.Equal(a.Status, test.status)
					is.Equal(a.Body, test.body)
				}
				is.Equal(len(got.events), test.runs)
				is.Equal(counts(t, s)["interaction duplicate"], 3-test.runs)
			})
		})
	}
	t.Run("a modal that is being handled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			release := make(chan struct{})
			var got record
			s := slacktest.New(t, got.features(func(context.Context, event.Event) (*event.Event, error) { <-release; return nil, nil }))
			first := make(chan slacktest.Answer, 1)
			r := slacktest.Interaction(slacktest.Secret, submitted)
			go func() { first <- s.Send(r) }()
			synctest.Wait()
			is.Equal(s.Interact(submitted).Status, 503) // an empty 200 would close the modal
			close(release)
			is.Equal((<-first).Status, 200)
			is.Equal(len(got.events), 1)
		})
	})
}
