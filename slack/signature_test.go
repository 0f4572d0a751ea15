package slack_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/matryer/is"
)

// TestSlacksOwnExample uses the example from Slack's documentation, "Verifying requests from
// Slack", at its own time.
func TestSlacksOwnExample(t *testing.T) {
	const (
		secret    = "8f742231b10e8888abcd99yyyzzz85a5"
		timestamp = 1531420618
		signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
		body      = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	)
	synctest.Test(t, func(t *testing.T) { // its clock starts in the year 2000
		is := is.New(t)
		time.Sleep(time.Until(time.Unix(timestamp, 0)))
		s := slacktest.NewWith(t, func(c *slack.Config) {
			c.Secret = func(context.Context, int) (string, int, error) { return secret, 1, nil }
		})
		r := slacktest.Request(secret, "/slack/commands", form, body)
		is.Equal(r.Header.Get("X-Slack-Signature"), signature) // slacktest's signature
		is.Equal(s.Send(r).Status, 200)
		time.Sleep(5*time.Minute + time.Second)
		r = slacktest.Request(secret, "/slack/commands", form, body)
		slacktest.Sign(r.Header, secret, body, time.Unix(timestamp, 0))
		is.Equal(s.Send(r).Status, 401) // a replay after its time
	})
}
