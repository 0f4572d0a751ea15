package slack_test

import (
	"testing"

	"coffeebuddy/slack/slacktest"

	"github.com/matryer/is"
)

func TestPing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := slacktest.New(t)
	a := s.Command("/coffee ping")
	is.Equal(a.Status, 200)
	is.Equal(a.Body, `{"response_type":"ephemeral","text":"pong"}`)
	is.Equal(a.Header.Get("Content-Type"), "application/json")
}
