package slack_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
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

// TestMapping checks the events that receivers get for Slack's requests.
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
			"token=x&team_id=T1&user_id=U1&trigger_id=1.2&api_app_id=A1&enterprise_id=E1&is_enterprise_install=false&command=%2Ftea&text=%3C%40U1%3E+green&response_url=https%3A%2F%2Fhooks.slack.com%2Fx",
			"com.slack.command", fromT1, "/tea",
			`{"api_app_id":"A1","command":"/tea","enterprise_id":"E1","is_enterprise_install":"false","response_url":"https://hooks.slack.com/x","team_id":"T1","text":"<@U1> green","trigger_id":"1.2","user_id":"U1"}`,
		},
		{
			"a command of an app that an enterprise has", "/slack/commands", form, "team_id=T1&user_id=U1&trigger_id=1.2&api_app_id=A1&enterprise_id=E1&is_enterprise_install=true&command=%2Ftea",
			"com.slack.command", "//slack.com/enterprises/E1/apps/A1", "/tea",
			`{"api_app_id":"A1","command":"/tea","enterprise_id":"E1","is_enterprise_install":"true","team_id":"T1","trigger_id":"1.2","user_id":"U1"}`,
		},
		{
			"a command of no app", "/slack/commands", form, shape + "command=%2Ftea", "com.slack.command", "//slack.com/teams/T1", "/tea",
			`{"command":"/tea","team_id":"T1","trigger_id":"1.2.3","user_id":"U1"}`,
		},
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

// TestInstallations checks that the source is the installation that a request is for, whichever
// company owns the channel or employs the user.
func TestInstallations(t *testing.T) {
	t.Parallel()
	const (
		ours  = "//slack.com/teams/TOURS/apps/A1"
		org   = "//slack.com/enterprises/EOURS/apps/A1"
		owner = `"team_id":"TOWNER","enterprise_id":"EOWNER","context_team_id":"TOWNER","context_enterprise_id":"EOWNER","is_ext_shared_channel":true,`
		guest = `"team":{"id":"TGUEST","enterprise_id":"EGUEST"},"enterprise":{"id":"EGUEST"},"user":{"id":"U1","team_id":"TGUEST"},`
	)
	for _, test := range []struct{ when, event, source string }{
		{"a shared channel's event", owner + `"authorizations":[{"team_id":"TOURS","enterprise_id":null,"is_enterprise_install":false}]`, ours},
		{"a shared channel's event for a workspace of an enterprise", owner + `"authorizations":[{"team_id":"TOURS","enterprise_id":"EOURS","is_enterprise_install":false}]`, ours},
		{"a shared channel's event for an enterprise", owner + `"authorizations":[{"team_id":"TOURS","enterprise_id":"EOURS","is_enterprise_install":true}]`, org},
		{"a shared channel's event for an enterprise without a workspace", owner + `"authorizations":[{"team_id":null,"enterprise_id":"EOURS","is_enterprise_install":true}]`, org},
		{"an enterprise that is no installation of the app", `"team_id":"TOURS","enterprise_id":"EOWNER","authorizations":[{"team_id":"TOURS","enterprise_id":null,"is_enterprise_install":true}]`, ours},
		{"no authorization", `"team_id":"TOURS","enterprise_id":"EOURS","authorizations":[]`, ours},
		{"an authorization that is null", `"team_id":"TOURS","authorizations":[null]`, ours},
		{"authorizations that are no list", `"team_id":"TOURS","authorizations":{"team_id":"TOWNER"}`, ours},
		{"an authorization's ids of other types", `"team_id":"TOURS","authorizations":[{"team_id":7,"enterprise_id":{}}]`, ours},
		{"an authorization in capitals", `"team_id":"TOURS","authorizations":[{"TEAM_ID":"TOWNER"}]`, ours},
		{"a context alone", `"context_team_id":"TOURS","context_enterprise_id":null`, ours},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			body := `{"type":"event_callback","api_app_id":"A1",` + test.event + `,"event":{"type":"message","team":"TOWNER","user_team":"TOWNER"}}`
			is.New(t).Equal(received(t, "/slack/events", jsonType, body).Source(), test.source)
		})
	}
	for _, test := range []struct{ when, interaction, source string }{
		{"a view that a guest submits", guest + `"is_enterprise_install":false,"view":{"team_id":"TGUEST","app_installed_team_id":"TOURS"}`, ours},
		{"a view that a guest submits whose company has the app, too", guest + `"is_enterprise_install":true,"view":{"app_installed_team_id":"TOURS"}`, ours},
		{"a view of an app that an enterprise has installed", `"team":{"id":"TGUEST"},"enterprise":{"id":"EGUEST"},"is_enterprise_install":false,"view":{"app_installed_team_id":"EOURS"}`, org},
		{"a view of an enterprise's app", `"team":null,"enterprise":{"id":"EOURS"},"is_enterprise_install":true,"view":{"app_installed_team_id":"TOURS"}`, org},
		{"a view of an enterprise's app, in a workspace", `"team":{"id":"TOURS"},"enterprise":{"id":"EOURS"},"is_enterprise_install":true,"view":{"app_installed_team_id":"TOURS"}`, org},
		{"a view that does not say", `"team":{"id":"TOURS"},"view":{"app_installed_team_id":null}`, ours},
		{"a flag in a string", `"team":{"id":"TOURS"},"enterprise":{"id":"EOURS"},"is_enterprise_install":"true"`, org},
		{"an enterprise's app outside of a workspace", `"team":null,"enterprise":{"id":"EOURS"},"is_enterprise_install":true,"user":{"team_id":"TOWNER"}`, org},
		{"no team but the user's", `"team":null,"enterprise":null,"user":{"id":"U1","team_id":"TOURS"}`, ours},
		{"no team but the view's", `"team":null,"user":{"id":"U1"},"view":{"team_id":"TOURS"}`, ours},
	} {
		for _, interactionType := range []string{"view_submission", "view_closed", "block_actions", "block_suggestion"} {
			t.Run(test.when+"/"+interactionType, func(t *testing.T) {
				t.Parallel()
				payload := `{"type":"` + interactionType + `","api_app_id":"A1",` + test.interaction + `}`
				is.New(t).Equal(received(t, "/slack/interactions", form, url.Values{"payload": {payload}}.Encode()).Source(), test.source)
			})
		}
	}
}

// TestSubjects checks that a subject is the event's own or absent, never the name of something
// else.
func TestSubjects(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("茶", 255)
	for _, test := range []struct{ when, inner, subject string }{
		{"a channel", `"channel":"C1","channel_id":"C2","item":{"channel":"C3"}`, "C1"},
		{"a channel that is an object", `"channel":{"id":"C1","name":"tea"}`, "C1"},
		{"a file's channel", `"file_id":"F1","channel_id":"C1"`, "C1"},
		{"an item's channel", `"item":{"type":"message","channel":"C1"}`, "C1"},
		{"an assistant's thread", `"assistant_thread":{"channel_id":"D1"}`, "D1"},
		{"no channel", `"user":"U1","file_id":"F1","item":{"type":"file","file":"F1"}`, ""},
		{"a channel that cannot be a subject", `"channel":"C\u00001","channel_id":"C2","item":{"channel":"C3"}`, ""},
		{"a name in capitals", `"CHANNEL":"C1"`, ""},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			e := received(t, "/slack/events", jsonType, `{"type":"event_callback","event":{"type":"message",`+test.inner+`}}`)
			is.New(t).Equal(e.Subject(), test.subject)
		})
	}
	for _, test := range []struct{ when, payload, subject string }{
		{"an action", `"actions":[{"action_id":"join"},{"action_id":"leave"}],"callback_id":"run"`, "join"},
		{"a suggestion's action", `"action_id":"join","view":{"callback_id":"run"}`, "join"},
		{"a shortcut", `"callback_id":"run"`, "run"},
		{"a view", `"view":{"callback_id":"run"}`, "run"},
		{"the longest action_id, in Chinese", `"actions":[{"action_id":"` + long + `"}],"view":{"callback_id":"run"}`, long},
		{"an action_id that is too long", `"actions":[{"action_id":"` + long + `茶"}],"view":{"callback_id":"run"}`, ""},
		{"an action_id that ends in a space", `"actions":[{"action_id":"join "}],"view":{"callback_id":"run"}`, ""},
		{"an action_id with a control character", `"actions":[{"action_id":"jo\u0000in"}],"callback_id":"run"`, ""},
		{"an action_id with half a surrogate pair", `"actions":[{"action_id":"\ud800"}],"callback_id":"run"`, ""},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			payload := `{"type":"block_actions",` + test.payload + `}`
			is.New(t).Equal(received(t, "/slack/interactions", form, url.Values{"payload": {payload}}.Encode()).Subject(), test.subject)
		})
	}
}

// received returns the event that a receiver gets for a signed request.
func received(t *testing.T, path, contentType, body string) event.Event {
	t.Helper()
	var got record
	s := slacktest.New(t, got.features(answering(nil, nil)))
	if a := s.Send(slacktest.Request(slacktest.Secret, path, contentType, body)); a.Status != http.StatusOK {
		t.Fatalf("it answered %d", a.Status)
	}
	if len(got.events) != 1 {
		t.Fatalf("%d events were received", len(got.events))
	}
	if err := got.events[0].Validate(); err != nil {
		t.Fatal(err)
	}
	return got.events[0]
}

// TestASignatureIsOfOneRoute checks that a body signed for one route does not run on another. Slack
// signs neither the path nor the media type.
func TestASignatureIsOfOneRoute(t *testing.T) {
	t.Parallel()
	const injected = "https://example.com/?a=b&" + shape + "command=%2Ftea&text=canary"
	event := `{"token":"x","type":"event_callback","event":{"type":"message","links":[{"url":"` + injected + `"}]}}`
	hidden := `{"token":"x","type":"event_callback","event":{"type":"message","links":[{"url":"https://example.com/?a=b&payload=` + url.QueryEscape(click) + `"}]}}`
	interaction := url.Values{"payload": {`{"type":"block_actions","actions":[{"value":"` + injected + `"}]}`}}.Encode()
	command := shape + "command=%2Ftea&text=" + url.QueryEscape("&payload="+click)
	for _, test := range []struct{ when, path, contentType, body string }{
		{"an event as a command", "/slack/commands", form, event},
		{"an event after a space as a command", "/slack/commands", form, " " + event},
		{"an event as an interaction", "/slack/interactions", form, hidden},
		{"an interaction as a command", "/slack/commands", form, interaction},
		{"an interaction as an event", "/slack/events", jsonType, interaction},
		{"a command as an interaction", "/slack/interactions", form, command},
		{"a command as an event", "/slack/events", jsonType, command},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var got record
			s := slacktest.New(t, got.features(answering(nil, nil)))
			is.Equal(s.Send(slacktest.Request(slacktest.Secret, test.path, test.contentType, test.body)).Status, 400)
			is.Equal(len(got.events), 0)
		})
	}
}

func TestIdsAndTimes(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var got record
	s := slacktest.New(t, got.features(answering(nil, nil)))
	body := shape + "command=%2Ftea"
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
	is.True(time.Since(got.events[2].Time()).Abs() < 2*time.Second) // the time of its signature
	is.Equal(len(got.events[2].ID()), 32)
}

// TestReplaysAreDuplicates checks that a replay of a signed request does nothing, whatever the
// first one's outcome.
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
				r.Header.Set("X-Slack-Retry-Num", "1") // an unsigned header
				a := s.Send(r)
				is.Equal(a.Status, 200)
			}
			is.Equal(len(got.events), 1)
			is.Equal(counts(t, s)["command duplicate"], 2)
			s.Command("/tea black")
			is.Equal(len(got.events), 2) // a different request
		})
	}
}

// TestSlacksRetries checks that a retry runs again after a failure, and does not after an
// acceptance.
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
