package slack_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
)

// FuzzSigned sends arbitrary bodies with a valid signature: receivers get valid events, and nothing
// fails.
func FuzzSigned(f *testing.F) {
	for _, seed := range []struct{ path, body string }{
		{"/slack/commands", shape + "command=%2Ftea&text=green&api_app_id=A1&token=x"},
		{"/slack/commands", "ssl_check=1"},
		{"/slack/commands", `{"event":{"links":[{"url":"https://example.com/?x&` + shape + `command=%2Ftea"}]}}`},
		{"/slack/interactions", "payload=" + url.QueryEscape(`{"type":"block_actions","actions":[{"action_id":"join"}],"team":{"id":"T1"}}`)},
		{"/slack/events", `{"type":"event_callback","event_id":"Ev1","event_time":1700000000,"event":{"type":"message","channel":{"id":"C1"}}}`},
		{"/slack/events", `{"type":"url_verification","challenge":"x"}`},
		{"/slack/events", `{"type":"event_callback","event":{"type":"message","x":"\ud800"},"token":null}`},
	} {
		f.Add(seed.path, seed.body, "1")
	}
	var problem error
	check := func(_ context.Context, e event.Event) (*event.Event, error) {
		problem = e.Validate()
		if strings.Contains(string(e.Data()), `"token":`) && e.Type() == "com.slack.command" {
			problem = errFailed
		}
		return nil, nil
	}
	var got record
	s := slacktest.New(f, got.features(check))
	f.Fuzz(func(t *testing.T, path, body, retry string) {
		contentType := form
		switch path {
		case "/slack/events":
			contentType = jsonType
		case "/slack/commands", "/slack/interactions":
		default:
			t.Skip("not a route of Slack's")
		}
		problem, got.events = nil, nil
		r := slacktest.Request(slacktest.Secret, path, contentType, body)
		r.Header["X-Slack-Retry-Num"] = []string{retry}
		a := s.Send(r)
		if problem != nil {
			t.Errorf("received %v: %v", got.events, problem)
		}
		switch a.Status {
		case 200, 400:
		default:
			t.Errorf("%d %s", a.Status, a.Body)
		}
	})
}

// FuzzForged sends arbitrary bodies without a valid signature: all are refused, and no receiver
// runs.
func FuzzForged(f *testing.F) {
	r := slacktest.Command("another", "/tea")
	f.Add(r.Header.Get("X-Slack-Request-Timestamp"), r.Header.Get("X-Slack-Signature"), form, "command=%2Ftea")
	f.Add("0", "v0=", "", "")
	f.Add("-1", "v0="+strings.Repeat("0", 64), "application/json", `{"type":"event_callback"}`)
	f.Add("1", "", form, "command=%2Ftea&ssl_check=1")
	var got record
	s := slacktest.New(f, got.features(answering(nil, nil)))
	f.Fuzz(func(t *testing.T, timestamp, signature, contentType, body string) {
		for _, path := range []string{"/slack/commands", "/slack/interactions", "/slack/events"} {
			r := slacktest.Request(slacktest.Secret, path, contentType, body)
			r.Header["X-Slack-Request-Timestamp"] = []string{timestamp}
			r.Header["X-Slack-Signature"] = []string{signature}
			a := s.Send(r)
			tested := a.Status == http.StatusOK && a.Body == "" && strings.Contains(body, "ssl_check=1")
			if a.Status != http.StatusUnauthorized && !tested {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			if len(got.events) > 0 {
				t.Errorf("received %v", got.events)
			}
		}
	})
}
