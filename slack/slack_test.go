package slack_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler/handlertest"
	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const (
	form     = "application/x-www-form-urlencoded"
	jsonType = "application/json"

	// shape is the part that every slash command has besides its name.
	shape = "team_id=T1&user_id=U1&trigger_id=1.2.3&"
)

// counts returns the counted requests by kind and outcome.
func counts(t testing.TB, s *slacktest.Slack) map[string]int {
	t.Helper()
	families, err := s.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	for _, series := range families[0].Metric {
		if n := int(series.GetCounter().GetValue()); n > 0 {
			counts[series.Label[0].GetValue()+" "+series.Label[1].GetValue()] = n
		}
	}
	return counts
}

// A record keeps the events that receivers got.
type record struct {
	mu     sync.Mutex
	events []event.Event
}

// features registers the same receiver for every type that the tests send.
func (r *record) features(answer events.Receiver) func(*events.Events, *slack.App) error {
	receive := func(ctx context.Context, e event.Event) (*event.Event, error) {
		r.mu.Lock()
		r.events = append(r.events, e)
		r.mu.Unlock()
		return answer(ctx, e)
	}
	return func(h *events.Events, app *slack.App) error {
		return errors.Join(
			app.Command("/tea", receive),
			h.On("com.slack.interaction.block_actions", receive),
			h.On("com.slack.interaction.view_submission", receive),
			h.On("com.slack.interaction.view_closed", receive),
			h.On("com.slack.interaction.block_suggestion", receive),
			h.On("com.slack.interaction.dialog_submission", receive),
			h.On("com.slack.interaction.dialog_suggestion", receive),
			h.On("com.slack.interaction.message_action", receive),
			h.On("com.slack.event.message", receive),
			h.On("com.slack.event.reaction_added", receive),
			h.On("com.slack.event.app_rate_limited", receive),
		)
	}
}

func answering(reply *event.Event, err error) events.Receiver {
	return func(context.Context, event.Event) (*event.Event, error) { return reply, err }
}

func TestCommands(t *testing.T) {
	t.Parallel()
	s := slacktest.New(t, func(_ *events.Events, app *slack.App) error {
		return errors.Join(
			app.Command("/coffee", answering(slack.Ephemeral("coffee"), nil)),
			app.Command("/coffee run", answering(slack.InChannel("run"), nil)),
		)
	})
	const unknown = "Sorry, I do not know that command."
	for typed, want := range map[string]string{
		"/coffee ping":          `{"response_type":"ephemeral","text":"pong"}`,
		"/coffee  PING  please": `{"response_type":"ephemeral","text":"pong"}`,
		"/coffee run now":       `{"response_type":"in_channel","text":"run"}`,
		"/coffee pingpong":      `{"response_type":"ephemeral","text":"coffee"}`,
		"/coffee":               `{"response_type":"ephemeral","text":"coffee"}`,
		"/tea":                  `{"replace_original":false,"response_type":"ephemeral","text":"` + unknown + `"}`,
		"/coffeeping":           `{"replace_original":false,"response_type":"ephemeral","text":"` + unknown + `"}`,
	} {
		is := is.New(t)
		a := s.Command(typed)
		is.Equal(a.Status, 200)
		is.Equal(a.Body, want) // the typed text
		is.Equal(a.Header.Get("Content-Type"), "application/json")
		is.Equal(a.Header.Get("Cache-Control"), "no-store")
	}
	is.New(t).Equal(counts(t, s), map[string]int{"command accepted": 5, "command rejected": 2})
}

func TestCommandsThatCannotBeRegistered(t *testing.T) {
	t.Parallel()
	slacktest.New(t, func(_ *events.Events, app *slack.App) error {
		for _, name := range []string{"", "coffee", "/", "/Coffee", "/coffee a b", " /coffee", "/coffee  a", "/coffee\t", "/coffee ping"} {
			is.New(t).True(app.Command(name, answering(nil, nil)) != nil) // name
		}
		is.New(t).True(app.Command("/tea", nil) != nil)
		return nil
	})
}

// TestOneAnswerForEveryForgery checks that every forgery gets the same 401, whatever is wrong with
// its signature.
func TestOneAnswerForEveryForgery(t *testing.T) {
	t.Parallel()
	const body = shape + "command=%2Ftea&text=canary"
	resign := func(r *http.Request, at time.Time) { slacktest.Sign(r.Header, slacktest.Secret, body, at) }
	for when, change := range map[string]func(*http.Request){
		"no headers":      func(r *http.Request) { r.Header.Del("X-Slack-Signature"); r.Header.Del("X-Slack-Request-Timestamp") },
		"no signature":    func(r *http.Request) { r.Header.Del("X-Slack-Signature") },
		"no timestamp":    func(r *http.Request) { r.Header.Del("X-Slack-Request-Timestamp") },
		"another secret":  func(r *http.Request) { slacktest.Sign(r.Header, "another", body, time.Now()) },
		"an empty secret": func(r *http.Request) { slacktest.Sign(r.Header, "", body, time.Now()) },
		"another body":    func(r *http.Request) { slacktest.Sign(r.Header, slacktest.Secret, body+"&", time.Now()) },
		"another time":    func(r *http.Request) { r.Header.Set("X-Slack-Request-Timestamp", "1") },
		"too old":         func(r *http.Request) { resign(r, time.Now().Add(-302*time.Second)) },
		"too far ahead":   func(r *http.Request) { resign(r, time.Now().Add(302*time.Second)) },
		"at the epoch":    func(r *http.Request) { resign(r, time.Unix(0, 0)) },
		"before it":       func(r *http.Request) { resign(r, time.Unix(-1, 0)) },
		"in a far year":   func(r *http.Request) { resign(r, time.Unix(1<<40, 0)) },
		"in no year":      func(r *http.Request) { r.Header.Set("X-Slack-Request-Timestamp", "99999999999999999999999") },
		"a timestamp with a sign": func(r *http.Request) {
			r.Header.Set("X-Slack-Request-Timestamp", "+"+r.Header.Get("X-Slack-Request-Timestamp"))
		},
		"a timestamp with a point": func(r *http.Request) {
			r.Header.Set("X-Slack-Request-Timestamp", r.Header.Get("X-Slack-Request-Timestamp")+".0")
		},
		"an empty timestamp": func(r *http.Request) { r.Header.Set("X-Slack-Request-Timestamp", "") },
		"two timestamps": func(r *http.Request) {
			r.Header.Add("X-Slack-Request-Timestamp", r.Header.Get("X-Slack-Request-Timestamp"))
		},
		"two signatures":    func(r *http.Request) { r.Header.Add("X-Slack-Signature", r.Header.Get("X-Slack-Signature")) },
		"another version":   func(r *http.Request) { r.Header.Set("X-Slack-Signature", "v1"+r.Header.Get("X-Slack-Signature")[2:]) },
		"no version":        func(r *http.Request) { r.Header.Set("X-Slack-Signature", r.Header.Get("X-Slack-Signature")[3:]) },
		"a short signature": func(r *http.Request) { r.Header.Set("X-Slack-Signature", r.Header.Get("X-Slack-Signature")[:66]) },
		"a long signature":  func(r *http.Request) { r.Header.Set("X-Slack-Signature", r.Header.Get("X-Slack-Signature")+"0") },
		"capitals, a replay's other": func(r *http.Request) {
			r.Header.Set("X-Slack-Signature", "v0="+strings.ToUpper(r.Header.Get("X-Slack-Signature")[3:]))
		},
		"no digits":              func(r *http.Request) { r.Header.Set("X-Slack-Signature", "v0="+strings.Repeat("x", 64)) },
		"an empty signature":     func(r *http.Request) { r.Header.Set("X-Slack-Signature", "") },
		"and another media type": func(r *http.Request) { r.Header.Del("X-Slack-Signature"); r.Header.Set("Content-Type", "text/plain") },
		"and compressed":         func(r *http.Request) { r.Header.Del("X-Slack-Signature"); r.Header.Set("Content-Encoding", "gzip") },
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var got record
			s := slacktest.New(t, got.features(answering(nil, nil)))
			r := slacktest.Request(slacktest.Secret, "/slack/commands", form, body)
			change(r)
			a := s.Send(r)
			is.Equal(a.Status, 401)
			is.Equal(a.Body, `{"error":"unsigned"}`+"\n")
			a.Header.Del("X-Request-Id")
			a.Header.Del("Connection") // it differs only by whether the body was read
			is.Equal(a.Header, http.Header{
				"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"},
				"Content-Type": {"application/json"}, "Content-Length": {"21"},
			})
			is.Equal(len(got.events), 0)
			is.Equal(counts(t, s), map[string]int{"command unsigned": 1})
			is.True(!strings.Contains(s.Logs(), "canary"))
		})
	}
}

func TestTimesThatAreJustGood(t *testing.T) {
	t.Parallel()
	s := slacktest.New(t)
	for _, skew := range []time.Duration{-299 * time.Second, 0, 299 * time.Second} {
		r := slacktest.Command(slacktest.Secret, "/coffee ping")
		body := new(bytes.Buffer)
		_, _ = body.ReadFrom(r.Body)
		again := slacktest.Request(slacktest.Secret, "/slack/commands", form, body.String())
		slacktest.Sign(again.Header, slacktest.Secret, body.String(), time.Now().Add(skew))
		is.New(t).Equal(s.Send(again).Status, 200)
	}
}

// TestEachRequestHasOneStatus checks that an invalid request gets its status and nothing is
// dispatched.
func TestEachRequestHasOneStatus(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write([]byte(shape + "command=%2Ftea"))
	_ = zip.Close()
	large := shape + "command=%2Ftea&text=" + strings.Repeat("x", 1<<20)
	for _, test := range []struct {
		when, path, contentType, body string
		header                        []string
		status                        int
	}{
		{"a command without its name", "/slack/commands", form, shape + "text=canary", nil, 400},
		{"a command that is none", "/slack/commands", form, shape + "command=tea&text=canary", nil, 400},
		{"a command with a control character", "/slack/commands", form, shape + "command=%2Ft%00ea&text=canary", nil, 400},
		{"a field twice", "/slack/commands", form, shape + "command=%2Ftea&command=%2Fcanary", nil, 400},
		{"a form that is none", "/slack/commands", form, shape + "command=%2Ftea&text=%zzcanary", nil, 400},
		{"a semicolon", "/slack/commands", form, shape + "command=%2Ftea;text=canary", nil, 400},
		{"a text that is not UTF-8", "/slack/commands", form, shape + "command=%2Ftea&text=%ffcanary", nil, 400},
		{"an id that is none", "/slack/commands", form, "team_id=T%2Fcanary&user_id=U1&trigger_id=1&command=%2Ftea", nil, 400},
		{"a command of no team", "/slack/commands", form, "user_id=U1&trigger_id=1&command=%2Ftea&text=canary", nil, 400},
		{"a command of no user", "/slack/commands", form, "team_id=T1&trigger_id=1&command=%2Ftea&text=canary", nil, 400},
		{"a command that nothing triggered", "/slack/commands", form, "team_id=T1&user_id=U1&command=%2Ftea&text=canary", nil, 400},
		{"an empty form", "/slack/commands", form, "", nil, 400},
		{"a command in JSON", "/slack/commands", jsonType, `{"command":"/tea"}`, nil, 415},
		{"another charset", "/slack/commands", form + "; charset=iso-8859-1", shape + "command=%2Ftea", nil, 415},
		{"no media type", "/slack/commands", "", shape + "command=%2Ftea", nil, 415},
		{"two media types", "/slack/commands", form, shape + "command=%2Ftea", []string{"Content-Type", form}, 415},
		{"compressed", "/slack/commands", form, packed.String(), []string{"Content-Encoding", "gzip"}, 415},
		{"too large", "/slack/commands", form, large, nil, 413},
		{"a payload and more", "/slack/interactions", form, "x=canary&payload=" + url.QueryEscape(click), nil, 400},
		{"a payload with a name twice", "/slack/interactions", form, `payload={"type":"block_actions","type":"canary"}`, nil, 400},
		{"an event with a name twice", "/slack/events", jsonType, `{"type":"event_callback","type":"canary","event":{"type":"message"}}`, nil, 400},
		{"an inner event with a name twice", "/slack/events", jsonType, `{"type":"event_callback","event":{"type":"message","type":"canary"}}`, nil, 400},
		{"an event whose type is in capitals", "/slack/events", jsonType, `{"TYPE":"event_callback","event":{"type":"message"}}`, nil, 400},
		{"no payload", "/slack/interactions", form, "text=canary", nil, 400},
		{"two payloads", "/slack/interactions", form, "payload=%7B%7D&payload=canary", nil, 400},
		{"a payload that is no JSON", "/slack/interactions", form, "payload=canary", nil, 400},
		{"a payload without a type", "/slack/interactions", form, `payload={"x":"canary"}`, nil, 400},
		{"a payload of a type that is none", "/slack/interactions", form, `payload={"type":"can%20ary"}`, nil, 400},
		{"a payload that is null", "/slack/interactions", form, `payload=null`, nil, 400},
		{"a payload by itself", "/slack/interactions", jsonType, `{"type":"block_actions"}`, nil, 415},
		{"no event", "/slack/events", jsonType, "", nil, 400},
		{"an empty event", "/slack/events", jsonType, "{}", nil, 400},
		{"a null event", "/slack/events", jsonType, "null", nil, 400},
		{"a list", "/slack/events", jsonType, "[]", nil, 400},
		{"an event that ends early", "/slack/events", jsonType, `{"type":"event_callback","event":{"type":"message"}`, nil, 400},
		{"an event and more", "/slack/events", jsonType, `{"type":"event_callback","event":{"type":"message"}}{}`, nil, 400},
		{"an event without an inner one", "/slack/events", jsonType, `{"type":"event_callback","x":"canary"}`, nil, 400},
		{"an inner event that is none", "/slack/events", jsonType, `{"type":"event_callback","event":7}`, nil, 400},
		{"an event id that is none", "/slack/events", jsonType, `{"type":"event_callback","event_id":"a b","event":{"type":"message"}}`, nil, 400},
		{"an event of a team that is none", "/slack/events", jsonType, `{"type":"event_callback","team_id":"T/canary","event_id":"Ev1","event_time":1,"event":{"type":"message"}}`, nil, 400},
		{"an event that is not UTF-8", "/slack/events", jsonType, "{\"type\":\"event_callback\",\"event\":{\"type\":\"message\",\"text\":\"\xff\"}}", nil, 400},
		{"an event that is too deep", "/slack/events", jsonType, `{"type":"event_callback","event":{"type":"message","x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}}`, nil, 400},
		{"an event in a form", "/slack/events", form, "payload=%7B%7D", nil, 415},
		{"a challenge that is none", "/slack/events", jsonType, `{"type":"url_verification","challenge":7}`, nil, 400},
		{"a challenge with a line break", "/slack/events", jsonType, `{"type":"url_verification","challenge":"can\nary"}`, nil, 400},
		{"a challenge that is an essay", "/slack/events", jsonType, `{"type":"url_verification","challenge":"` + strings.Repeat("canary", 100) + `"}`, nil, 400},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var got record
			s := slacktest.New(t, got.features(answering(nil, nil)))
			r := slacktest.Request(slacktest.Secret, test.path, test.contentType, test.body)
			if test.contentType == "" {
				r.Header.Del("Content-Type")
			}
			for i := 0; i < len(test.header); i += 2 {
				r.Header.Add(test.header[i], test.header[i+1])
			}
			a := s.Send(r)
			is.Equal(a.Status, test.status)
			is.Equal(a.Body, `{"error":"malformed"}`+"\n")
			is.Equal(a.Header.Get("X-Slack-No-Retry"), "1")
			is.Equal(len(got.events), 0)
			total := 0
			for name, n := range counts(t, s) {
				is.True(strings.HasSuffix(name, " rejected"))
				total += n
			}
			is.Equal(total, 1)
			is.True(!strings.Contains(s.Logs(), "canary"))
		})
	}
}

func TestBodyThatIsAnnouncedTooLarge(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	r := slacktest.Command(slacktest.Secret, "/coffee ping")
	r.ContentLength = 1<<20 + 1 // the server does not wait for it
	is.Equal(slacktest.New(t).Send(r).Status, 413)
}

func TestBodyThatIsNotAnnounced(t *testing.T) {
	if testing.Short() {
		t.Skip("large bodies under the race detector; make e2e runs it")
	}
	t.Parallel()
	const command = shape + "command=%2Fcoffee&text=ping&x="
	for size, status := range map[int]int{100: 200, 1 << 20: 200, 1<<20 + 1: 413} {
		r := slacktest.Request(slacktest.Secret, "/slack/commands", form, command+strings.Repeat("x", size-len(command)))
		r.ContentLength = -1
		is.New(t).Equal(slacktest.New(t).Send(r).Status, status) // size
	}
	// An edited message of 40,000 Chinese characters with an unfurl takes 1.9 MB.
	const start, end = `{"type":"event_callback","event":{"type":"message","text":"`, `"}}`
	for size, status := range map[int]int{1_900_000: 200, 4 << 20: 200, 4<<20 + 1: 413} {
		r := slacktest.Request(slacktest.Secret, "/slack/events", jsonType, start+strings.Repeat("x", size-len(start+end))+end)
		r.ContentLength = -1
		var got record
		is.New(t).Equal(slacktest.New(t, got.features(answering(nil, nil))).Send(r).Status, status) // size
	}
	// A click in such a message is form-encoded, where each of its characters takes 8 bytes.
	message := strings.Repeat("%5Cu8336", 3*40_000)
	var got record
	r := slacktest.Request(slacktest.Secret, "/slack/interactions", form, `payload={"type":"message_action","message":{"text":"`+message+`"}}`)
	is.New(t).Equal(slacktest.New(t, got.features(answering(nil, nil))).Send(r).Status, 200)
}

func TestMediaTypesAsSlackAndOthersWriteThem(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{form, form + "; charset=utf-8", "Application/X-WWW-Form-URLEncoded;charset=UTF-8"} {
		s := slacktest.New(t)
		is.New(t).Equal(s.Send(slacktest.Request(slacktest.Secret, "/slack/commands", contentType, shape+"command=%2Fcoffee&text=ping")).Status, 200)
	}
}

func TestURLVerification(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := slacktest.New(t)
	const body = `{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}`
	a := s.Send(slacktest.Request(slacktest.Secret, "/slack/events", jsonType, body))
	is.Equal(a.Status, 200)
	is.Equal(a.Body, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
	is.Equal(a.Header.Get("Content-Type"), "text/plain; charset=utf-8")
	is.Equal(s.Send(slacktest.Request("another", "/slack/events", jsonType, body)).Status, 401)
	is.Equal(counts(t, s), map[string]int{"unknown accepted": 1, "event unsigned": 1})
}

// TestSSLCheck checks that Slack's test of a route gets a 200 without a signature, and that
// everything else in the request is ignored.
func TestSSLCheck(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var got record
	s := slacktest.New(t, got.features(answering(nil, nil)))
	for _, body := range []string{"ssl_check=1&token=x", "command=%2Ftea&ssl_check=1"} {
		for _, secret := range []string{slacktest.Secret, "another"} {
			a := s.Send(slacktest.Request(secret, "/slack/commands", form, body))
			is.Equal(a.Status, 200)
			is.Equal(a.Body, "")
		}
	}
	is.Equal(len(got.events), 0)
	is.Equal(counts(t, s), map[string]int{"unknown accepted": 4})
	for _, body := range []string{"ssl_check=0", "ssl_check=", "ssl_check=1&ssl_check=1", "text=ssl_check%3D1", "ssl_check=11"} {
		is.Equal(s.Send(slacktest.Request("another", "/slack/commands", form, body)).Status, 401) // body
	}
	is.Equal(s.Send(slacktest.Request("another", "/slack/events", jsonType, "ssl_check=1")).Status, 401)

	unsigned := func(path, body string) int {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", form)
		return s.Send(r).Status
	}
	is.Equal(unsigned("/slack/commands", "ssl_check=1&token=0123456789abcdef01234567"), 200)
	is.Equal(unsigned("/slack/interactions", "ssl_check=1"), 200)
	is.Equal(unsigned("/slack/commands", "command=%2Ftea"), 401)
	is.Equal(unsigned("/slack/commands", "ssl_check=1&"+shape+"command=%2Ftea&text=a+long+one"), 401) // every test is shorter
	is.Equal(unsigned("/slack/events", "ssl_check=1"), 401)
}

func TestRoutesAreForPOST(t *testing.T) {
	t.Parallel()
	s := slacktest.New(t)
	for _, path := range []string{"/slack/commands", "/slack/interactions", "/slack/events"} {
		a := s.Send(httptest.NewRequest(http.MethodGet, path, nil))
		is.New(t).Equal(a.Status, 405)
		is.New(t).Equal(a.Header.Get("Allow"), "POST")
		is.New(t).Equal(s.Send(httptest.NewRequest(http.MethodPost, path+"/", nil)).Status, 404)
	}
}

// TestWithoutASecretThereIsNoSlack checks that without a secret nothing is mounted, and that an
// event can still drive the commands in dev.
func TestWithoutASecretThereIsNoSlack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := slacktest.NewWith(t, func(c *slack.Config) { c.Secret = nil })
	for _, path := range []string{"/slack/commands", "/slack/interactions", "/slack/events"} {
		is.Equal(s.Send(httptest.NewRequest(http.MethodPost, path, nil)).Status, 404)
		is.Equal(s.Send(httptest.NewRequest(http.MethodGet, path, nil)).Status, 404)
	}
	families, err := s.Registry.Gather()
	is.NoErr(err)
	is.Equal(len(families), 1) // every series exists anyway, at 0
	is.Equal(len(families[0].GetMetric()), 4*6)
	reply := s.Events.Dispatch(t.Context(), handlertest.Event("com.slack.command", `{"command":"/coffee","text":"ping"}`)).Reply
	is.Equal(string(reply.Data()), `{"response_type":"ephemeral","text":"pong"}`)
	is.Equal(s.Events.Dispatch(t.Context(), handlertest.Event("com.slack.command", `7`)).Outcome, events.Rejected)
}

func TestEventsCannotSpeakForSlack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := slacktest.New(t)
	d := s.Deliver(handlertest.Event("com.slack.command", `{"command":"/coffee","text":"ping"}`))
	is.Equal(d.Status(), 422)
	is.True(d.DeadLetter != nil)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := slacktest.New(t)
	n, err := testutil.GatherAndCount(s.Registry, "coffeebuddy_slack_requests_total")
	is.NoErr(err)
	is.Equal(n, 24) // each kind with each outcome, from the start
	problems, err := testutil.GatherAndLint(s.Registry)
	is.NoErr(err)
	is.Equal(len(problems), 0)
	registry := prometheus.NewRegistry()
	for _, twice := range []bool{false, true} {
		f := handlertest.New(t)
		_, err := slack.New(f.Events.Events, slack.Config{
			Secret: func(context.Context, int) (string, int, error) { return "", 1, nil }, Registry: registry, Mount: f.Mount,
		})
		is.Equal(err != nil, twice) // its metrics are already registered
	}
}

// TestSlotsAreSlacksOwn checks that requests to POST / do not use up Slack's slots. When Slack's
// own slots are all taken, it gets a 503 before anything is read.
func TestSlotsAreSlacksOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		release := make(chan struct{})
		var got record
		s := slacktest.New(t, got.features(func(context.Context, event.Event) (*event.Event, error) { <-release; return nil, nil }))
		var slots []*events.Slot
		for slot := s.Events.Enter(); slot != nil; slot = s.Events.Enter() {
			slots = append(slots, slot)
		}
		is.Equal(len(slots), 32)
		var together sync.WaitGroup
		for i := range 32 {
			together.Go(func() { is.Equal(s.Command("/tea "+strconv.Itoa(i)).Status, 200) }) // acknowledged while running
		}
		together.Wait()

		body := &unreadable{}
		r := slacktest.Command(slacktest.Secret, "/coffee ping")
		r.Body = body
		a := s.Send(r)
		is.Equal(a.Status, 503)
		is.Equal(a.Body, `{"error":"overloaded"}`+"\n")
		is.Equal(a.Header.Get("Retry-After"), "1")
		is.True(!body.read)
		is.Equal(counts(t, s), map[string]int{"command acknowledged_for": 32, "command unavailable": 1})

		for _, slot := range slots {
			slot.Leave()
		}
		close(release)
		synctest.Wait()
		for range 40 { // more than there are slots: each request releases its slot
			is.Equal(s.Send(slacktest.Command("another", "/coffee ping")).Status, 401)
			is.Equal(s.Command("/coffee ping").Status, 200)
			is.Equal(s.Send(slacktest.Request(slacktest.Secret, "/slack/events", jsonType, "{}")).Status, 400)
		}
	})
}

// TestUnsignedRequestsHoldNothing checks that a request without signature headers is refused by its
// headers alone, even when all slots are taken.
func TestUnsignedRequestsHoldNothing(t *testing.T) {
	t.Parallel()
	for path, valid := range map[string]*http.Request{
		"commands":     slacktest.Command(slacktest.Secret, "/coffee ping"),
		"interactions": slacktest.Interaction(slacktest.Secret, click),
		"events":       slacktest.Event(slacktest.Secret, "Ev1", `{"type":"message"}`),
	} {
		for _, name := range []string{"X-Slack-Signature", "X-Slack-Request-Timestamp"} {
			t.Run(path+" without "+name, func(t *testing.T) {
				t.Parallel()
				is := is.New(t)
				body := &unreadable{}
				r := valid.Clone(t.Context())
				r.Body = body
				r.Header.Del(name)
				a := slacktest.New(t).Send(r)
				is.Equal(a.Status, 401)
				is.Equal(a.Body, `{"error":"unsigned"}`+"\n")
				is.True(!body.read)
			})
		}
	}
}

// TestBodiesInMemoryAreBounded checks that bodies beyond the limit get 503 until one is released.
func TestBodiesInMemoryAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("large bodies under the race detector; make e2e runs it")
	}
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		release := make(chan struct{})
		var got record
		s := slacktest.New(t, got.features(func(context.Context, event.Event) (*event.Event, error) { <-release; return nil, nil }))
		large := `{"type":"message","text":"` + strings.Repeat("x", 3<<20) + `"}`
		var together sync.WaitGroup
		statuses := make([]int, 6)
		for i := range statuses {
			together.Go(func() { statuses[i] = s.Event("Ev"+strconv.Itoa(i), large).Status })
		}
		together.Wait()
		slices.Sort(statuses)
		is.Equal(statuses, []int{200, 200, 200, 503, 503, 503}) // each takes a buffer of 4 MiB and one byte
		is.Equal(s.Command("/coffee ping").Status, 200)         // a small one
		close(release)
		synctest.Wait()
		is.Equal(s.Event("Ev9", large).Status, 200)
	})
}

type unreadable struct{ read bool }

func (u *unreadable) Read([]byte) (int, error) { u.read = true; return 0, errors.New("canary") }
func (u *unreadable) Close() error             { return nil }

func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	r := slacktest.Command(slacktest.Secret, "/coffee ping")
	r.Body = &unreadable{}
	is.Equal(slacktest.New(t).Send(r).Status, 400)
}

// TestLogsHaveTheEventAndNothingOfTheBody checks that logs identify the event and contain nothing
// of its body.
func TestLogsHaveTheEventAndNothingOfTheBody(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := slacktest.New(t)
	r := slacktest.Request(slacktest.Secret, "/slack/commands", form, url.Values{
		"command": {"/coffee"}, "text": {"ping canary"}, "token": {"canary"}, "user_name": {"canary"}, "team_id": {"T1"}, "api_app_id": {"A1"},
		"user_id": {"U1"}, "trigger_id": {"canary"},
		"response_url": {"https://hooks.slack.com/canary"},
	}.Encode())
	r.Header.Set("X-Request-Id", "r-1")
	is.Equal(s.Send(r).Status, 200)
	lines := strings.Split(strings.TrimSpace(s.Logs()), "\n")
	var line map[string]any
	is.NoErr(json.Unmarshal([]byte(lines[len(lines)-1]), &line))
	is.Equal(line["route"], "/slack/commands")
	is.Equal(line["request_id"], "r-1")
	is.Equal(line["event_type"], "com.slack.command")
	is.Equal(line["event_source"], "//slack.com/teams/T1/apps/A1")
	is.True(!strings.Contains(s.Logs(), "canary"))
	is.True(!strings.Contains(s.Logs(), slacktest.Secret))
}

// TestSlowBodiesLockNobodyOut checks that a request whose headers look signed and whose body does
// not arrive holds no slot, and ends after a second.
func TestSlowBodiesLockNobodyOut(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := httptest.NewServer(slacktest.New(t))
	defer server.Close()
	header := slacktest.Command("another", "/coffee ping").Header
	for range 200 { // six times as many as there are slots
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		is.NoErr(err)
		defer conn.Close()
		var head bytes.Buffer
		head.WriteString("POST /slack/commands HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n")
		is.NoErr(header.Write(&head))
		head.WriteString("\r\n")
		_, err = conn.Write(head.Bytes())
		is.NoErr(err)
	}
	began := time.Now()
	for time.Since(began) < 1500*time.Millisecond {
		r := slacktest.Command(slacktest.Secret, "/coffee ping")
		r.URL.Scheme, r.URL.Host, r.RequestURI = "http", server.Listener.Addr().String(), ""
		resp, err := server.Client().Do(r)
		is.NoErr(err)
		resp.Body.Close()
		is.Equal(resp.StatusCode, 200)
	}
}
