package ping_test

import (
	"testing"

	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/matryer/is"
)

func TestCommands(t *testing.T) {
	t.Parallel()
	s := slacktest.New(t) // which registers it
	for command, text := range map[string]string{
		"/coffee ping":              "pong",
		"/coffee PING now":          "pong",
		"/coffee echo green  tea":   "green  tea",
		"/coffee  echo  \tgreen":    "green",
		"/coffee echo":              "Type something after echo.",
		"/coffee echo echo \"a\" ☕": "echo \\\"a\\\" ☕",
	} {
		is := is.New(t)
		a := s.Command(command)
		is.Equal(a.Status, 200)
		is.Equal(a.Body, `{"response_type":"ephemeral","text":"`+text+`"}`) // command
	}
}

// TestEchoIsDurableWithASink: Slack is answered once the sink has the event, and the user
// gets the reply when the broker delivers it. ping is answered at once all the same.
func TestEchoIsDurableWithASink(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := slacktest.NewWithSink(t, func(*slack.Config) {})
	is.Equal(s.Command("/coffee echo green tea").Body, "")
	is.Equal(len(s.Sent()), 1)
	is.Equal(len(s.Posts()), 0)
	is.Equal(s.Deliver(s.Sent()[0]).Status(), 204)
	is.Equal(s.Posts(), []string{`{"response_type":"ephemeral","text":"green tea"}`})
	is.Equal(s.Command("/coffee ping").Body, `{"response_type":"ephemeral","text":"pong"}`)
}
