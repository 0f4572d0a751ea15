package slack_test

import (
	"strings"
	"testing"

	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"
)

// BenchmarkDurable measures what a durable receiver costs in addition to the sink and the broker:
// signing the event on Slack's route, and verifying it on POST /.
func BenchmarkDurable(b *testing.B) {
	for name, text := range map[string]string{"small": "hello", "1.9 MB": strings.Repeat("茶", 1_900_000/3)} {
		s := slacktest.NewWithSink(b, func(*slack.Config) {}, durable(answering(nil, nil)))
		s.Event("Ev1", `{"type":"app_mention","text":"`+text+`"}`)
		signed := s.Sent()[0]
		app := s.App
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := app.Admit(b.Context(), signed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
