package slack_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/handler/handlertest"
	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// A leak is a pod that has read the secret "old", of which somebody has a copy; "new" has replaced
// it in Vault since, and the old version is destroyed.
type leak struct {
	*slacktest.Slack

	keeper *keeper
}

func withLeak(t *testing.T, test func(t *testing.T, is *is.I, l leak)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		k := &keeper{secret: "old", versions: []string{"old"}, takes: time.Millisecond}
		s := signingWith(t, k)
		is.Equal(s.Send(slacktest.Event("old", "Ev1", mention)).Status, 200)
		k.set("new", nil, time.Millisecond)
		k.destroy(1)
		test(t, is, leak{s, k})
	})
}

func signingWith(t *testing.T, k *keeper) *slacktest.Slack {
	t.Helper()
	return slacktest.NewWithSink(t, func(c *slack.Config) { c.Secret = k.read }, durable(answering(nil, nil)))
}

// forged returns an event for POST / that is signed with the leaked secret.
func forged(t *testing.T, id string) event.Event {
	t.Helper()
	thief := signingWith(t, &keeper{secret: "old", versions: []string{"old"}, takes: time.Millisecond})
	thief.Send(slacktest.Event("old", id, mention))
	return thief.Sent()[0]
}

// ofVersion returns an event that says that another version has signed it.
func ofVersion(signed event.Event, version int) event.Event {
	return copied(signed, func(e *event.Event) {
		seal := strings.SplitN(e.Extensions()["coffeebuddysignature"].(string), "-", 4)
		seal[1] = strconv.Itoa(version)
		e.SetExtension("coffeebuddysignature", strings.Join(seal, "-"))
	})
}

// TestLeakedSecretOfAQuietPod checks that a pod that was quiet trusts neither the old secret nor
// events that it has signed, whatever comes first.
func TestLeakedSecretOfAQuietPod(t *testing.T) {
	withLeak(t, func(t *testing.T, is *is.I, l leak) {
		time.Sleep(5*time.Minute + time.Second)
		is.Equal(l.Send(slacktest.Event("old", "Ev2", mention)).Status, 401)
	})
	withLeak(t, func(t *testing.T, is *is.I, l leak) {
		time.Sleep(5*time.Minute + time.Second)
		is.Equal(l.Send(request(forged(t, "Ev2"))).Status, 422)
		time.Sleep(3 * time.Minute)
		is.Equal(l.Send(slacktest.Event("new", "Ev3", mention)).Status, 200)
		time.Sleep(2*time.Minute + time.Second)
		is.Equal(l.Send(request(forged(t, "Ev4"))).Status, 422) // and is not trusted again, as the one before the new one
	})
	withLeak(t, func(t *testing.T, is *is.I, l leak) {
		time.Sleep(30 * time.Minute)
		is.Equal(l.Send(slacktest.Event("new", "Ev2", mention)).Status, 200)
		is.Equal(l.Send(request(forged(t, "Ev3"))).Status, 422)
		is.Equal(l.Send(slacktest.Event("old", "Ev4", mention)).Status, 401)
	})
}

// TestMadeUpVersionsDoNotKeepALeakedSecret checks that reads that are throttled because of made-up
// versions do not delay that of the current one.
func TestMadeUpVersionsDoNotKeepALeakedSecret(t *testing.T) {
	withLeak(t, func(t *testing.T, is *is.I, l leak) {
		rotated := time.Now()
		for n := 1000; time.Since(rotated) < time.Hour; n++ {
			f := forged(t, "Ev"+strconv.Itoa(n))
			is.True(l.Send(request(ofVersion(f, n))).Status != 204)
			if status := l.Send(request(f)).Status; time.Since(rotated) > 5*time.Minute {
				is.True(status == 422 || status == 503)
			}
			time.Sleep(7 * time.Second)
		}
		is.True(l.keeper.count() < 40)
	})
}

// TestAReadOfAVersionThatHangs checks that it holds up no event of a version that is known.
func TestAReadOfAVersionThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		hangs := make(chan struct{}) // for example in a file on a hung file system
		s := slacktest.NewWithSink(t, func(c *slack.Config) {
			c.Secret = func(_ context.Context, version int) (string, int, error) {
				if version == 99 {
					<-hangs
					return "", 0, errors.New("it hung")
				}
				return slacktest.Secret, 1, nil
			}
		}, durable(answering(nil, nil)))
		s.Event("Ev1", mention)
		signed := s.Sent()[0]
		began := time.Now()
		is.Equal(s.Send(request(ofVersion(signed, 99))).Status, 503)
		is.Equal(time.Since(began), time.Second)
		is.Equal(s.Send(request(signed)).Status, 204)
		is.Equal(time.Since(began), time.Second)
		close(hangs)
	})
}

// TestReplyOutlivesTheDeadline checks that the reply of a receiver that accepts late is posted,
// even if Slack has to be asked twice: the event is not delivered again.
func TestReplyOutlivesTheDeadline(t *testing.T) {
	for _, takes := range []time.Duration{9900 * time.Millisecond, 10500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			s := withSink(t, func(context.Context, event.Event) (*event.Event, error) {
				time.Sleep(takes)
				return slack.Ephemeral("done"), nil
			})
			posts, taken := 0, 0
			s.Hook = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if posts++; posts == 1 {
					w.WriteHeader(http.StatusServiceUnavailable)
				} else if r.Context().Err() == nil {
					taken++
				}
			})
			is.Equal(s.Command("/tea green").Status, 200)
			is.Equal(handlertest.Broker{To: s.Function, Sleep: time.Sleep}.Deliver(s.Sent()[0]).Status(), 204)
			time.Sleep(time.Minute)
			is.Equal(taken, 1)
		})
	}
}

// TestMalformedDurable checks that a request that can be no event is refused for good, as it is for
// a receiver that is not durable.
func TestMalformedDurable(t *testing.T) {
	is := is.New(t)
	s := withSink(t, answering(nil, nil))
	for _, eventType := range []string{"app_mention", "other"} {
		body := `{"type":"event_callback","event_id":"Ev1","team_id":"T1","event":{"type":"` + eventType + `","text":"a` + "\xff" + `b"}}`
		a := s.Send(slacktest.Request(slacktest.Secret, "/slack/events", "application/json", body))
		is.Equal(a.Status, 400)
		is.Equal(a.Header.Get("X-Slack-No-Retry"), "1")
	}
}
