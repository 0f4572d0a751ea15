package slack_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/slack"
	"coffeebuddy/slack/slacktest"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

const mention = `{"type":"app_mention","channel":"C1","text":"<@U1> & co"}`

// durable registers durable receivers for a command, for clicks and for mentions.
func durable(receive events.Receiver) func(*events.Events, *slack.App) error {
	return func(_ *events.Events, app *slack.App) error {
		return errors.Join(
			app.Command("/tea", receive, slack.Durable()),
			app.Interaction("block_actions", receive, slack.Durable()),
			app.Event("app_mention", receive, slack.Durable()),
		)
	}
}

// withSink returns a Slack with a sink and durable receivers of one kind.
func withSink(t *testing.T, receive events.Receiver) *slacktest.Slack {
	t.Helper()
	return slacktest.NewWithSink(t, func(*slack.Config) {}, durable(receive))
}

// kinds returns a durable request of each kind.
func kinds() map[string]func(*slacktest.Slack) slacktest.Answer {
	return map[string]func(*slacktest.Slack) slacktest.Answer{
		"command":     func(s *slacktest.Slack) slacktest.Answer { return s.Command("/tea green") },
		"interaction": func(s *slacktest.Slack) slacktest.Answer { return s.Interact(click) },
		"event":       func(s *slacktest.Slack) slacktest.Answer { return s.Event("Ev1", mention) },
	}
}

// TestDurable follows a request all the way: Slack, sink, POST /, receiver, response_url.
func TestDurable(t *testing.T) {
	for kind, send := range kinds() {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				received := 0
				s := withSink(t, func(context.Context, event.Event) (*event.Event, error) {
					received++
					return slack.Ephemeral("done"), nil
				})
				a := send(s)
				is.Equal(a.Status, 200)
				is.Equal(a.Body, "")
				is.Equal(received, 0) // the broker holds it now
				is.Equal(len(s.Sent()), 1)
				is.Equal(counts(t, s), map[string]int{kind + " accepted": 1})

				d := s.Deliver(s.Sent()[0])
				is.Equal(d.Status(), 204)
				is.Equal(received, 1)
				want := `{"response_type":"ephemeral","text":"done"}`
				if kind == "event" {
					want = "" // an event has no response_url
				}
				is.Equal(strings.Join(s.Posts(), ""), want)

				is.Equal(s.Deliver(s.Sent()[0]).Status(), 204) // brokers deliver at least once
				is.Equal(received, 1)
				is.Equal(strings.Join(s.Posts(), ""), want)
			})
		})
	}
}

// TestDurableIsDeliveredUntilItIsDone checks redelivery after a pod stops and after a receiver
// fails.
func TestDurableIsDeliveredUntilItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		attempts := 0
		s := withSink(t, func(context.Context, event.Event) (*event.Event, error) {
			if attempts++; attempts <= 3 {
				return nil, errFailed
			}
			return slack.InChannel("done"), nil
		})
		is.Equal(s.Command("/tea").Status, 200)
		d := s.Deliver(s.Sent()[0])
		is.Equal(d.Status(), 204)
		is.Equal(attempts, 4)
		is.Equal(s.Posts(), []string{`{"response_type":"in_channel","text":"done"}`}) // the failures post nothing
	})
}

// TestDurablePoison checks that a refused event goes to the dead-letter sink and that the user is
// told.
func TestDurablePoison(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := withSink(t, answering(nil, events.Permanent(errFailed)))
	is.Equal(s.Command("/tea").Status, 200)
	d := s.Deliver(s.Sent()[0])
	is.True(d.DeadLetter != nil)
	is.Equal(strings.Join(s.Posts(), ""), ephemeral(refused))
}

// TestWhatTheSinkDoesNotAccept checks that an event is not acknowledged when the sink refuses it:
// the user reads why, and Slack sends an event again.
func TestWhatTheSinkDoesNotAccept(t *testing.T) {
	for when, sink := range map[string]func(context.Context, event.Event) error{
		"it hangs":   func(ctx context.Context, _ event.Event) error { <-ctx.Done(); return ctx.Err() },
		"it refuses": func(context.Context, event.Event) error { return events.Permanent(errors.New("it answered 413")) },
		"it is down": func(context.Context, event.Event) error { return errors.New("connection refused") },
	} {
		for kind, send := range kinds() {
			t.Run(when+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					is := is.New(t)
					s := withSink(t, answering(nil, nil))
					s.Sink = sink
					began := time.Now()
					a := send(s)
					is.True(time.Since(began) <= 2*time.Second)
					if kind == "command" {
						is.Equal(a.Status, 200)
						is.Equal(a.Body, ephemeral(busy))
					} else {
						is.Equal(a.Status, 503)
						is.Equal(a.Body, `{"error":"retry"}`+"\n")
					}
					is.NoErr(s.Wait(t.Context()))
					want := ""
					if kind == "interaction" {
						want = ephemeral(busy)
					}
					is.Equal(strings.Join(s.Posts(), ""), want)
					is.Equal(counts(t, s), map[string]int{kind + " unavailable": 1})
					is.True(strings.Contains(s.Logs(), "the sink did not accept"))
					is.True(!strings.Contains(s.Logs(), "canary"))
				})
			})
		}
	}
}

// TestWhatIsTooLargeForTheSink checks that a large request is processed in this pod and
// acknowledged once its receiver has finished.
func TestWhatIsTooLargeForTheSink(t *testing.T) {
	large := `{"type":"app_mention","text":"` + strings.Repeat("x", 1<<20) + `"}`
	for takes, status := range map[time.Duration]int{2 * time.Second: 200, 10 * time.Second: 503} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			runs := 0
			s := withSink(t, func(context.Context, event.Event) (*event.Event, error) {
				time.Sleep(takes)
				runs++
				return nil, nil
			})
			is.Equal(s.Event("Ev1", large).Status, status)
			is.Equal(len(s.Sent()), 0)
			is.NoErr(s.Wait(t.Context()))
			is.Equal(runs, 1)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		runs := 0
		s := withSink(t, func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(10 * time.Second)
			runs++
			return nil, nil
		})
		is.Equal(s.Event("Ev1", large).Status, 503)
		is.Equal(s.Event("Ev1", large).Status, 503) // Slack's first retry: the receiver still runs
		time.Sleep(time.Minute)
		is.Equal(s.Event("Ev1", large).Status, 200) // Slack's second retry
		is.Equal(runs, 1)
	})
}

// TestEchoIsDurableWhereThereIsASink checks that echo is durable with a sink, and ordinary without
// one.
func TestEchoIsDurableWhereThereIsASink(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	const green = `{"response_type":"ephemeral","text":"green  tea"}`
	a := slacktest.New(t).Command("/coffee echo green  tea")
	is.Equal(a.Status, 200)
	is.Equal(a.Body, green)

	s := slacktest.NewWithSink(t, func(*slack.Config) {})
	is.Equal(s.Command("/coffee echo green  tea").Body, "")
	is.Equal(s.Deliver(s.Sent()[0]).Status(), 204)
	is.Equal(s.Posts(), []string{green})
	is.Equal(s.Command("/coffee ping").Body, `{"response_type":"ephemeral","text":"pong"}`) // ping is not durable
	is.Equal(len(s.Sent()), 1)
}

// TestWhatCannotBeDurable checks that a receiver which cannot be durable fails at registration.
func TestWhatCannotBeDurable(t *testing.T) {
	t.Parallel()
	receive := answering(nil, nil)
	slacktest.NewWithSink(t, func(*slack.Config) {}, func(_ *events.Events, app *slack.App) error {
		is := is.New(t)
		is.True(app.HasSink())
		for _, name := range []string{"view_submission", "block_suggestion", "dialog_submission", "dialog_suggestion", "interactive_message"} {
			is.True(app.Interaction(name, receive, slack.Durable()) != nil) // name
			is.NoErr(app.Interaction(name, receive))
		}
		is.NoErr(app.Interaction("view_closed", receive, slack.Durable()))
		is.True(app.Interaction("view_closed", receive) != nil) // twice
		is.True(app.Event("a b", receive) != nil)
		is.True(app.Event("message", nil) != nil)
		return nil
	})
	slacktest.New(t, func(_ *events.Events, app *slack.App) error {
		is := is.New(t)
		is.True(!app.HasSink())
		is.True(errors.Is(app.Command("/tea", receive, slack.Durable()), events.ErrNoSink))
		is.True(errors.Is(app.Event("message", receive, slack.Durable()), events.ErrNoSink))
		return nil
	})
	slacktest.NewWithSink(t, func(c *slack.Config) { c.Secret = nil }, func(_ *events.Events, app *slack.App) error {
		is := is.New(t)
		is.True(!app.HasSink())
		is.True(app.Command("/tea", receive, slack.Durable()) != nil) // no secret to sign with
		return nil
	})
}

// copied returns a changed deep copy of an event.
func copied(e event.Event, change func(*event.Event)) event.Event {
	out := e.Clone()
	change(&out)
	return out
}

// TestWhoMaySpeakForSlack checks that POST / admits only events that this function verified and
// that have not changed since.
func TestWhoMaySpeakForSlack(t *testing.T) {
	t.Parallel()
	s := withSink(t, answering(nil, nil))
	is := is.New(t)
	is.Equal(s.Event("Ev1", mention).Status, 200)
	signed := s.Sent()[0]
	const extension = "coffeebuddysignature"
	seal := signed.Extensions()[extension].(string)
	parts := strings.SplitN(seal, "-", 4)
	reseal := func(i int, text string) func(*event.Event) {
		changed := append([]string(nil), parts...)
		changed[i] = text
		return func(e *event.Event) { e.SetExtension(extension, strings.Join(changed, "-")) }
	}
	now, err := strconv.ParseInt(parts[2], 10, 64)
	is.NoErr(err)
	data := func(old, fresh string) func(*event.Event) {
		return func(e *event.Event) { e.DataEncoded = []byte(strings.Replace(string(e.DataEncoded), old, fresh, 1)) }
	}
	for _, test := range []struct {
		when   string
		change func(*event.Event)
		status int
	}{
		{"as it was sent", func(*event.Event) {}, 204},
		{"with what a broker adds", func(e *event.Event) { e.SetExtension("knativearrivaltime", "2026-11-26T15:00:00Z") }, 204},
		{"with another span of its trace", func(e *event.Event) {
			e.SetExtension("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		}, 204},
		{"with its JSON written in another way", func(e *event.Event) {
			e.DataEncoded, _ = json.MarshalIndent(json.RawMessage(strings.NewReplacer("<", `\u003c`, "&", `\u0026`).Replace(string(e.DataEncoded))), "", " ")
		}, 204},
		{"without a signature", func(e *event.Event) { e.SetExtension(extension, nil) }, 422},
		{"with another id", func(e *event.Event) { e.SetID("Ev2") }, 422},
		{"with another source", func(e *event.Event) { e.SetSource("//slack.com/teams/T2/apps/A1") }, 422},
		{"with another type", func(e *event.Event) { e.SetType("com.slack.interaction.block_actions") }, 422},
		{"with another subject", func(e *event.Event) { e.SetSubject("C2") }, 422},
		{"with another time", func(e *event.Event) { e.SetTime(e.Time().Add(time.Second)) }, 422},
		{"with another media type", func(e *event.Event) { e.SetDataContentType("application/x+json") }, 422},
		{"with a schema", func(e *event.Event) { e.SetDataSchema("https://example.com/schema") }, 422},
		{"as a retry", func(e *event.Event) { e.SetExtension("slackretrynum", "1") }, 422},
		{"with another text", data("co", "CO"), 422},
		{"with a value of another kind", data(`"C1"`, `1`), 422},
		{"with one field more", data(`{`, `{"user_id":"UADMIN",`), 422},
		{"with a field twice", data(`"C1"`, `"C1","channel":"C2"`), 422},
		{"without data", func(e *event.Event) { e.DataEncoded = nil }, 422},
		{"with another version of the secret", reseal(1, "2"), 422},
		{"with a later time of the signature", reseal(2, strconv.FormatInt(now+1, 10)), 422},
		{"with another scheme", reseal(0, "v2"), 422},
		{"with half a signature", reseal(3, parts[3][:20]), 422},
		{"with a signature written in another way", reseal(1, "01"), 422},
		{"with an empty signature", reseal(3, ""), 422},
		{"with no signature at all", func(e *event.Event) { e.SetExtension(extension, "canary") }, 422},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			fresh := withSink(t, answering(nil, nil)) // it has not seen this event
			d := fresh.Deliver(copied(signed, test.change))
			is.Equal(d.Status(), test.status)
			is.Equal(d.DeadLetter != nil, test.status == 422) // no retry follows
			is.Equal(len(d.Attempts), 1)
		})
	}
	t.Run("on a function with another secret", func(t *testing.T) {
		t.Parallel()
		other := slacktest.NewWithSink(t, func(c *slack.Config) {
			c.Secret = func(context.Context, int) (string, int, error) { return "another", 1, nil }
		}, durable(answering(nil, nil)))
		is := is.New(t)
		is.Equal(other.Deliver(signed).Status(), 422)
	})
	t.Run("signed like a request of Slack's", func(t *testing.T) {
		t.Parallel()
		forged := copied(signed, func(e *event.Event) { e.SetExtension(extension, nil) })
		header := http.Header{}
		slacktest.Sign(header, slacktest.Secret, string(forged.Data()), time.Now())
		forged.SetExtension(extension, header.Get("X-Slack-Signature"))
		is := is.New(t)
		is.Equal(s.Deliver(forged).Status(), 422)
	})
}

// TestTheSecretIsRotatedOnTheWay checks that an event is verified with the version that signed it,
// for a day, as long as Vault keeps that version.
func TestTheSecretIsRotatedOnTheWay(t *testing.T) {
	withDurable := func(t *testing.T, k *keeper) *slacktest.Slack {
		t.Helper()
		return slacktest.NewWithSink(t, func(c *slack.Config) { c.Secret = k.read }, durable(answering(nil, nil)))
	}
	send := func(s *slacktest.Slack, secret, id string) event.Event {
		s.Send(slacktest.Event(secret, id, mention))
		sent := s.Sent()
		return sent[len(sent)-1]
	}
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		k := &keeper{secret: "old", versions: []string{"old"}, takes: time.Millisecond}
		s := withDurable(t, k)
		before := send(s, "old", "Ev1")
		k.set("new", nil, time.Millisecond)
		time.Sleep(11 * time.Second)
		after := send(s, "new", "Ev2")
		is.Equal(k.count(), 2)
		is.Equal(s.Deliver(before).Status(), 204)
		is.Equal(s.Deliver(after).Status(), 204)
		is.Equal(k.count(), 2) // both versions are known

		stranger := withDurable(t, k) // it knows neither version
		is.Equal(stranger.Deliver(after).Status(), 204)
		is.Equal(stranger.Deliver(before).Status(), 204)
		is.Equal(k.count(), 4)
		for range 20 {
			is.Equal(stranger.Deliver(before).Status(), 204) // a duplicate whose version is known
		}
		is.Equal(k.count(), 4)

		time.Sleep(23 * time.Hour)
		is.Equal(withDurable(t, k).Deliver(before).Status(), 204)
		time.Sleep(time.Hour)
		is.Equal(withDurable(t, k).Deliver(before).Status(), 422) // a day old

		last := send(s, "new", "Ev3")
		k.set("newest", nil, time.Millisecond)
		k.destroy(2)
		is.Equal(withDurable(t, k).Deliver(last).Status(), 422) // the version no longer exists
	})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		k := &keeper{secret: "old", versions: []string{"old"}, takes: time.Millisecond}
		signed := send(withDurable(t, k), "old", "Ev1")
		k.set("", errors.New("sealed"), time.Millisecond)
		s := withDurable(t, k)
		is.Equal(s.Send(request(signed)).Status, 503)
		is.True(s.Send(request(signed)).Header.Get("Retry-After") != "")
		k.set("old", nil, time.Millisecond)
		time.Sleep(2 * time.Second)
		is.Equal(s.Deliver(signed).Status(), 204)
		time.Sleep(30 * time.Minute)
		k.set("", errors.New("sealed"), time.Millisecond)
		is.Equal(s.Send(request(signed)).Status, 503) // the cached old version has expired
	})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		k := &keeper{secret: "old", versions: []string{"old"}, takes: time.Millisecond}
		s := withDurable(t, k)
		signed := send(s, "old", "Ev1")
		time.Sleep(30 * time.Minute)
		k.set("", errors.New("sealed"), time.Millisecond)
		is.Equal(s.Deliver(signed).Status(), 204) // the last secret stays valid for an hour, as it does for Slack's requests
		k.set("new", nil, time.Millisecond)
		k.destroy(1)
		time.Sleep(5 * time.Minute)
		is.Equal(s.Deliver(signed).Status(), 422) // it was the current version at the last read
	})
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		k := &keeper{secret: "old", versions: []string{"old"}, takes: time.Millisecond}
		signed := send(withDurable(t, k), "old", "Ev1")
		k.set("", slack.ErrNoVersion, time.Millisecond)               // a wrong path looks the same
		is.Equal(withDurable(t, k).Send(request(signed)).Status, 503) // it must not refuse the event for good
	})
}

// TestMadeUpVersionsDoNotSpendTheToken checks that made-up versions cause few reads: each costs a
// read of Vault.
func TestMadeUpVersionsDoNotSpendTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		k := &keeper{secret: "old", versions: []string{"old"}, takes: time.Millisecond}
		s := slacktest.NewWithSink(t, func(c *slack.Config) { c.Secret = k.read }, durable(answering(nil, nil)))
		s.Send(slacktest.Event("old", "Ev1", mention))
		signed := s.Sent()[0]
		began, n := k.count(), 2
		for start := time.Now(); time.Since(start) < time.Hour; n++ {
			forged := copied(signed, func(e *event.Event) {
				seal := strings.SplitN(e.Extensions()["coffeebuddysignature"].(string), "-", 4)
				seal[1], seal[2] = strconv.Itoa(n), strconv.FormatInt(time.Now().Unix(), 10)
				e.SetExtension("coffeebuddysignature", strings.Join(seal, "-"))
			})
			status := s.Send(request(forged)).Status
			is.True(status == 422 || status == 503)
			time.Sleep(5 * time.Second)
		}
		is.True(k.count()-began <= 20)
		is.Equal(s.Deliver(signed).Status(), 204) // its version is known
	})
}

// request returns an event's request as a broker sends it.
func request(e event.Event) *http.Request {
	r, _ := http.NewRequest(http.MethodPost, "/", strings.NewReader(string(e.Data())))
	for name, value := range maps.All(map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": e.ID(), "Ce-Source": e.Source(), "Ce-Type": e.Type(), "Ce-Subject": e.Subject(),
		"Ce-Time": e.Time().Format(time.RFC3339Nano), "Content-Type": e.DataContentType(),
		"Ce-Coffeebuddysignature": e.Extensions()["coffeebuddysignature"].(string),
	}) {
		r.Header.Set(name, value)
	}
	return r
}
