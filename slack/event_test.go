package slack_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

var errFailed = errors.New("canary")

func bodyOf(t *testing.T, r *http.Request) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestMapping is of what receivers get for what Slack sends.
func TestMapping(t *testing.T) {
	t.Parallel()
	const fromT1 = "//slack.com/teams/T1/apps/A1"
	for _, test := range []struct {
		when, path, contentType, body string
		eventType, source, subject    string
		data                          string
	}{
		{
			"a command", "/slack/commands", form,
			"token=x&team_id=T1&api_app_id=A1&enterprise_id=E1&is_enterprise_install=false&command=%2Ftea&text=%3C%40U1%3E+green&response_url=https%3A%2F%2Fhooks.slack.com%2Fx",
			"com.slack.command", fromT1, "/tea",
			`{"api_app_id":"A1","command":"/tea","enterprise_id":"E1","is_enterprise_install":"false","response_url":"https://hooks.slack.com/x","team_id":"T1","text":"<@U1> green"}`,
		},
		{
			"a command of an app that an enterprise has", "/slack/commands", form, "team_id=T1&api_app_id=A1&enterprise_id=E1&is_enterprise_install=true&command=%2Ftea",
			"com.slack.command", "//slack.com/enterprises/E1/apps/A1", "/tea",
			`{"api_app_id":"A1","command":"/tea","enterprise_id":"E1","is_enterprise_install":"true","team_id":"T1"}`,
		},
		{"a command of nobody", "/slack/commands", form, "command=%2Ftea", "com.slack.command", "//slack.com", "/tea", `{"command":"/tea"}`},
		{
			"a click", "/slack/interactions", form, `payload={"type":"block_actions","token":"x","team":{"id":"T1"},"api_app_id":"A1","actions":[{"action_id":"join","value":7.0}],"callback_id":"other"}`,
			"com.slack.interaction.block_actions", fromT1, "join",
			`{"actions":[{"action_id":"join","value":7.0}],"api_app_id":"A1","callback_id":"other","team":{"id":"T1"},"type":"block_actions"}`,
		},
		{
			"a view", "/slack/interactions", form, `payload={"type":"view_submission","team":null,"enterprise":{"id":"E1"},"is_enterprise_install":true,"api_app_id":"A1","view":{"callback_id":"order"}}`,
			"com.slack.interaction.view_submission", "//slack.com/enterprises/E1/apps/A1", "order",
			`{"api_app_id":"A1","enterprise":{"id":"E1"},"is_enterprise_install":true,"team":null,"type":"view_submission","view":{"callback_id":"order"}}`,
		},
		{
			"an interaction with fields of other types", "/slack/interactions", form, `payload={"type":"message_action","team":"T1","callback_id":7,"api_app_id":"A1"}`,
			"com.slack.interaction.message_action", "//slack.com/apps/A1", "", `{"api_app_id":"A1","callback_id":7,"team":"T1","type":"message_action"}`,
		},
		{
			"a subject that is none", "/slack/interactions", form, `payload={"type":"message_action","callback_id":"a\u0000b"}`,
			"com.slack.interaction.message_action", "//slack.com", "", `{"callback_id":"a\u0000b","type":"message_action"}`,
		},
		{
			"an event", "/slack/events", jsonType, `{"token":"x","team_id":"T1","api_app_id":"A1","type":"event_callback","event_id":"Ev1","event_time":1700000000,"event":{"type":"message","channel":"C1"}}`,
			"com.slack.event.message", fromT1, "C1",
			`{"api_app_id":"A1","event":{"type":"message","channel":"C1"},"event_id":"Ev1","event_time":1700000000,"team_id":"T1","type":"event_callback"}`,
		},
		{
			"an event in a channel that is an object", "/slack/events", jsonType, `{"type":"event_callback","event":{"type":"message","channel":{"id":"C1"}}}`,
			"com.slack.event.message", "//slack.com", "C1", `{"event":{"type":"message","channel":{"id":"C1"}},"type":"event_callback"}`,
		},
		{
			"an event of an item", "/slack/events", jsonType, `{"type":"event_callback","event":{"type":"reaction_added","item":{"channel":"C1"}}}`,
			"com.slack.event.reaction_added", "//slack.com", "C1", `{"event":{"type":"reaction_added","item":{"channel":"C1"}},"type":"event_callback"}`,
		},
		{
			"an event of an enterprise", "/slack/events", jsonType, `{"team_id":"T1","enterprise_id":"E1","authorizations":[{"is_enterprise_install":true}],"type":"event_callback","event":{"type":"message"}}`,
			"com.slack.event.message", "//slack.com/enterprises/E1", "",
			`{"authorizations":[{"is_enterprise_install":true}],"enterprise_id":"E1","event":{"type":"message"},"team_id":"T1","type":"event_callback"}`,
		},
		{
			"what is no event of anybody", "/slack/events", jsonType, `{"type":"app_rate_limited","team_id":"T1","api_app_id":"A1"}`,
			"com.slack.event.app_rate_limited", fromT1, "", `{"api_app_id":"A1","team_id":"T1","type":"app_rate_limited"}`,
		},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var got record
			s := slacktest.New(t, got.features(answering(nil, nil)))
			is.Equal(s.Send(slacktest.Request(slacktest.Secret, test.path, test.contentType, test.body)).Status, 200)
			is.Equal(len(got.events), 1)
			e := got.events[0]
			is.NoErr(e.Validate())
			is.Equal(e.Type(), test.eventType)
			is.Equal(e.Source(), test.source)
			is.Equal(e.Subject(), test.subject)
			is.Equal(e.DataContentType(), "application/json")
			is.Equal(string(e.Data()), test.data)
		})
	}
}

func TestIdsAndTimes(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var got record
	s := slacktest.New(t, got.features(answering(nil, nil)))
	body := "command=%2Ftea"
	r := slacktest.Request(slacktest.Secret, "/slack/commands", form, body)
	slacktest.Sign(r.Header, slacktest.Secret, body, time.Now().Add(-time.Minute))
	signed := time.Now().Add(-time.Minute)
	r.Header.Set("X-Slack-Retry-Num", "1")
	r.Header.Set("X-Slack-Retry-Reason", "http_timeout")
	r.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	s.Send(r)
	e := got.events[0]
	is.Equal(len(e.ID()), 32)
	is.True(signed.Sub(e.Time()).Abs() < 2*time.Second)
	is.Equal(e.Extensions(), map[string]any{
		"slackretrynum": "1", "slackretryreason": "http_timeout", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	})

	r = slacktest.Event(slacktest.Secret, "Ev7", `{"type":"message"}`)
	r.Header.Set("X-Slack-Retry-Num", "1 canary")
	r.Header.Add("X-Slack-Retry-Reason", "a")
	r.Header.Add("X-Slack-Retry-Reason", "b")
	s.Send(r)
	e = got.events[1]
	is.Equal(e.ID(), "Ev7")
	is.True(time.Since(e.Time()).Abs() < 2*time.Second)
	is.Equal(len(e.Extensions()), 0)

	const ancient = `{"type":"event_callback","event_time":-1,"event":{"type":"message"}}`
	s.Send(slacktest.Request(slacktest.Secret, "/slack/events", jsonType, ancient))
	is.True(time.Since(got.events[2].Time()).Abs() < 2*time.Second) // when it was signed
	is.Equal(len(got.events[2].ID()), 32)
}

// TestReplaysAreDuplicates: the same signed request again does nothing, whatever became
// of the first one.
func TestReplaysAreDuplicates(t *testing.T) {
	t.Parallel()
	for when, err := range map[string]error{"accepted": nil, "failed": errFailed} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var got record
			s := slacktest.New(t, got.features(answering(nil, err)))
			first := slacktest.Command(slacktest.Secret, "/tea green")
			body := bodyOf(t, first)
			for range 3 {
				r := slacktest.Request(slacktest.Secret, "/slack/commands", form, body)
				r.Header = first.Header.Clone()
				r.Header.Set("X-Slack-Retry-Num", "1") // which is not signed
				a := s.Send(r)
				is.Equal(a.Status, 200)
			}
			is.Equal(len(got.events), 1)
			is.Equal(counts(t, s)["command duplicate"], 2)
			s.Command("/tea black")
			is.Equal(len(got.events), 2) // another one
		})
	}
}

// TestSlacksRetries: an event that failed may run again, one that was accepted not.
func TestSlacksRetries(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var got record
	err := errFailed
	s := slacktest.New(t, got.features(func(context.Context, event.Event) (*event.Event, error) { return nil, err }))
	is.Equal(s.Event("Ev1", `{"type":"message"}`).Status, 500)
	is.Equal(s.Event("Ev1", `{"type":"message"}`).Status, 500)
	err = nil
	for range 3 {
		is.Equal(s.Event("Ev1", `{"type":"message"}`).Status, 200)
	}
	is.Equal(len(got.events), 3)
	is.Equal(counts(t, s), map[string]int{"event unavailable": 2, "event accepted": 1, "event duplicate": 2})
}
