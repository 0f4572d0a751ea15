package slack_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// late is a receiver that outlasts the acknowledgement.
func late(context.Context, event.Event) (*event.Event, error) {
	time.Sleep(2 * time.Second)
	return slack.InChannel("late"), nil
}

func TestResponseIsTriedAgain(t *testing.T) {
	for _, test := range []struct {
		when     string
		statuses []int
		after    string // Retry-After
		posts    int
		took     time.Duration
		lost     bool
	}{
		{"taken", []int{200}, "", 1, 0, false},
		{"at the second time", []int{500, 200}, "", 2, time.Second, false},
		{"at the third time", []int{503, 502, 204}, "", 3, 3 * time.Second, false},
		{"never", []int{500, 500, 500, 200}, "", 3, 3 * time.Second, true},
		{"too often", []int{429, 200}, "4", 2, 4 * time.Second, false},
		{"too often, for long", []int{429, 200}, "3600", 1, 0, true},
		{"too often, and no number", []int{429, 200}, "canary", 2, time.Second, false},
		{"used up", []int{404, 200}, "", 1, 0, true},
		{"elsewhere", []int{302, 200}, "", 1, 0, true},
	} {
		t.Run(test.when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				var got record
				s := slacktest.New(t, got.features(late))
				statuses := test.statuses
				s.Hook = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					is.Equal(r.URL.Host, "hooks.slack.com")
					is.Equal(r.Header.Get("Content-Type"), "application/json; charset=utf-8")
					w.Header().Set("Location", "https://hooks.slack.com/canary")
					if test.after != "" {
						w.Header().Set("Retry-After", test.after)
					}
					w.WriteHeader(statuses[0])
					statuses = statuses[1:]
				})
				began := time.Now()
				is.Equal(s.Command("/tea").Status, 200)
				is.NoErr(s.Wait(t.Context()))
				is.Equal(len(s.Posts()), test.posts)
				is.Equal(time.Since(began), 2*time.Second+test.took)
				is.Equal(strings.Contains(s.Logs(), "a response to Slack was lost"), test.lost)
				is.Equal(strings.Contains(metrics(s), `coffeebuddy_background_tasks_total{outcome="failed"} 1`), test.lost)
				is.True(!strings.Contains(s.Logs(), "canary"))
			})
		})
	}
}

func metrics(s *slacktest.Slack) string {
	r, _ := http.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	return s.Send(r).Body
}

// TestResponsesGoToSlackAlone checks that responses are posted only to https on Slack's hosts. Any
// other URL in a request is not called, even if signed.
func TestResponsesGoToSlackAlone(t *testing.T) {
	for _, url := range []string{
		"", "canary", "http://hooks.slack.com/canary", "https://hooks.slack.com.example.com/canary", "https://example.com/canary",
		"https://hooks.slack.com@example.com/canary", "https://canary@hooks.slack.com/x", "https://hooks.slack.com:8443/canary",
		"https://hooks.slack.com:443/canary", "https://127.0.0.1/canary", "https://HOOKS.slack.com/canary", "file:///canary",
		"https:hooks.slack.com/canary", "//hooks.slack.com/canary", "https://hooks.slack.com\\@example.com/canary", "https://hooks.slack.com%2fcanary",
		"https://xhooks.slack.com/canary", "https:///canary", "https://[::1]/canary",
	} {
		t.Run(url, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				var got record
				s := slacktest.New(t, got.features(late))
				is.Equal(s.Interact(`{"type":"block_actions","response_url":`+strconv.Quote(url)+`}`).Status, 200)
				is.NoErr(s.Wait(t.Context()))
				is.Equal(len(got.events), 1) // the receiver runs anyway
				is.Equal(len(s.Posts()), 0)
				is.True(strings.Contains(s.Logs(), "a response to Slack was lost"))
				is.True(!strings.Contains(s.Logs(), "canary"))
			})
		})
	}
}

// TestHooks checks that the hooks are Slack's and GovSlack's unless the configuration says
// otherwise.
func TestHooks(t *testing.T) {
	const stub = "https://stub.example.com"
	for _, test := range []struct {
		when  string
		hooks []string
		url   string
		posts int
	}{
		{"Slack's by default", nil, "https://hooks.slack.com/x", 1},
		{"GovSlack's by default", nil, "https://hooks.slack-gov.com/x", 1},
		{"no host that only ends like GovSlack's", nil, "https://evil-hooks.slack-gov.com/x", 0},
		{"no host that only starts like GovSlack's", nil, "https://hooks.slack-gov.com.example.com/x", 0},
		{"GovSlack's not without TLS", nil, "http://hooks.slack-gov.com/x", 0},
		{"another one where that is configured", []string{stub}, stub + "/x", 1},
		{"Slack's not where another one is configured", []string{stub}, "https://hooks.slack.com/x", 0},
	} {
		t.Run(test.when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				var got record
				s := slacktest.NewWith(t, func(c *slack.Config) { c.Hooks = test.hooks }, got.features(late))
				s.Interact(`{"type":"block_actions","response_url":` + strconv.Quote(test.url) + `}`)
				is.NoErr(s.Wait(t.Context()))
				is.Equal(len(got.events), 1)
				is.Equal(len(s.Posts()), test.posts)
			})
		})
	}
}

// TestResponseThatHangs checks that a hanging post is given up after five seconds and retried.
func TestResponseThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		var got record
		s := slacktest.New(t, got.features(late))
		s.Hook = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		began := time.Now()
		s.Command("/tea")
		is.NoErr(s.Wait(t.Context()))
		is.Equal(time.Since(began), 2*time.Second+3*5*time.Second+3*time.Second)
		is.True(strings.Contains(s.Logs(), "it did not answer"))
	})
}
