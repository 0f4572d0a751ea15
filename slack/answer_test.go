package slack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"runtime"
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

const (
	click      = `{"type":"block_actions","response_url":"https://hooks.slack.com/actions/canary"}`
	submission = `{"type":"view_submission"}`
	busy       = "Sorry, I cannot do that right now. Please try again in a moment."
	wrong      = "Sorry, something went wrong. Please try again."
	refused    = "Sorry, I cannot do that."
)

// replying returns a reply with the given data.
func replying(contentType, data string) *event.Event {
	e := event.New()
	e.SetType("coffeebuddy.slack.message")
	if contentType != "" {
		e.SetDataContentType(contentType)
	}
	e.DataEncoded = []byte(data)
	return &e
}

func ephemeral(text string) string {
	message, _ := json.Marshal(text)
	return `{"replace_original":false,"response_type":"ephemeral","text":` + string(message) + `}`
}

// TestWhatSlackIsToldOfAVerdict checks the response for every verdict that arrives in time.
func TestWhatSlackIsToldOfAVerdict(t *testing.T) {
	t.Parallel()
	type told struct {
		status     int
		body, post string
		outcome    string
	}
	hello := `{"text":"hello"}`
	for _, test := range []struct {
		when                             string
		receive                          events.Receiver
		command, click, submitted, event told
	}{
		{
			"accepted", answering(nil, nil),
			told{200, "", "", "accepted"},
			told{200, "", "", "accepted"},
			told{200, "", "", "accepted"},
			told{200, "", "", "accepted"},
		},
		{
			"a reply", answering(replying(jsonType, hello), nil),
			told{200, hello, "", "accepted"},
			told{200, "", hello, "accepted"},
			told{200, hello, "", "accepted"},
			told{200, "", "", "accepted"},
		},
		{
			"a reply in text", answering(replying("text/plain", "hello"), nil),
			told{200, "hello", "", "accepted"},
			told{200, "", ephemeral("hello"), "accepted"},
			told{200, "hello", "", "accepted"},
			told{200, "", "", "accepted"},
		},
		{
			"a reply without data", answering(replying("", ""), nil),
			told{200, "", "", "accepted"},
			told{200, "", "", "accepted"},
			told{200, "", "", "accepted"},
			told{200, "", "", "accepted"},
		},
		{
			"a reply that Slack cannot read", answering(replying("text/html", "<b>canary</b>"), nil),
			told{200, ephemeral(wrong), "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{200, "", "", "accepted"},
		},
		{
			"a reply that is a list", answering(replying(jsonType, `["canary"]`), nil),
			told{200, ephemeral(wrong), "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{200, "", "", "accepted"},
		},
		{
			"refused for good", answering(nil, events.Permanent(errFailed)),
			told{200, ephemeral(refused), "", "rejected"},
			told{422, "rejected", "", "rejected"},
			told{422, "rejected", "", "rejected"},
			told{200, "", "", "rejected"},
		},
		{
			"come back", answering(nil, events.RetryAfter(time.Minute, errFailed)),
			told{200, ephemeral(busy), "", "unavailable"},
			told{503, "retry", "", "unavailable"},
			told{503, "retry", "", "unavailable"},
			told{503, "retry", "", "unavailable"},
		},
		{
			"an error", answering(nil, errFailed),
			told{200, ephemeral(wrong), "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{500, "failed", "", "unavailable"},
		},
		{
			"a panic", func(context.Context, event.Event) (*event.Event, error) { panic("canary") },
			told{200, ephemeral(wrong), "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{500, "failed", "", "unavailable"},
		},
		{
			"the goroutine's end", func(context.Context, event.Event) (*event.Event, error) { runtime.Goexit(); return nil, nil },
			told{200, ephemeral(wrong), "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{500, "failed", "", "unavailable"},
			told{500, "failed", "", "unavailable"},
		},
	} {
		for kind, want := range map[string]told{"command": test.command, "click": test.click, "submission": test.submitted, "event": test.event} {
			t.Run(test.when+"/"+kind, func(t *testing.T) {
				t.Parallel()
				is := is.New(t)
				var got record
				s := slacktest.New(t, got.features(test.receive))
				var a slacktest.Answer
				name := kind
				switch kind {
				case "command":
					a = s.Command("/tea")
				case "click":
					a, name = s.Interact(click), "interaction"
				case "submission":
					a, name = s.Interact(submission), "interaction"
				case "event":
					a = s.Event("Ev1", `{"type":"message"}`)
				}
				is.NoErr(s.Wait(t.Context()))
				is.Equal(len(got.events), 1)
				is.Equal(a.Status, want.status)
				if want.status >= 400 {
					want.body = `{"error":"` + want.body + `"}` + "\n"
				}
				is.Equal(a.Body, want.body)
				is.Equal(strings.Join(s.Posts(), ""), want.post)
				is.Equal(counts(t, s), map[string]int{name + " " + want.outcome: 1})
				is.True(!strings.Contains(s.Logs(), "canary"))
				if test.when == "come back" && kind == "event" {
					is.Equal(a.Header.Get("Retry-After"), "60")
				}
			})
		}
	}
}

// TestNobodys checks that an event without a registered receiver is not an error to Slack.
func TestNobodys(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := slacktest.New(t)
	a := s.Event("Ev1", `{"type":"team_join"}`)
	is.Equal(a.Status, 200)
	is.Equal(a.Body, "")
	a = s.Interact(`{"type":"view_closed"}`)
	is.Equal(a.Status, 200)
	is.Equal(a.Body, "")
	is.Equal(counts(t, s), map[string]int{"event rejected": 1, "interaction rejected": 1})
}

// TestAcknowledgedInTime checks the response while a receiver takes ten seconds.
func TestAcknowledgedInTime(t *testing.T) {
	const hello = `{"text":"hello"}`
	for _, test := range []struct {
		when  string
		reply *event.Event
		err   error
		takes time.Duration
		post  string // for a command and a click
	}{
		{"a reply", replying(jsonType, hello), nil, 10 * time.Second, hello},
		{"a reply in text", replying("text/plain", "hello"), nil, 10 * time.Second, ephemeral("hello")},
		{"no reply", nil, nil, 10 * time.Second, ""},
		{"a reply that Slack cannot read", replying("text/html", "canary"), nil, 10 * time.Second, ephemeral(wrong)},
		{"an error", nil, errFailed, 10 * time.Second, ephemeral(wrong)},
		{"come back", nil, events.RetryAfter(time.Minute, errFailed), 10 * time.Second, ephemeral(busy)},
		{"refused", nil, events.Permanent(errFailed), 10 * time.Second, ephemeral(refused)},
		{"longer than a receiver may", replying(jsonType, hello), nil, 2 * time.Minute, ephemeral(wrong)},
	} {
		for kind, send := range map[string]func(*slacktest.Slack) slacktest.Answer{
			"command":     func(s *slacktest.Slack) slacktest.Answer { return s.Command("/tea") },
			"interaction": func(s *slacktest.Slack) slacktest.Answer { return s.Interact(click) },
			"event":       func(s *slacktest.Slack) slacktest.Answer { return s.Event("Ev1", `{"type":"message"}`) },
		} {
			t.Run(test.when+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					is := is.New(t)
					var got record
					s := slacktest.New(t, got.features(func(ctx context.Context, _ event.Event) (*event.Event, error) {
						select {
						case <-time.After(test.takes):
							return test.reply, test.err
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					}))
					began := time.Now()
					a := send(s)
					is.Equal(time.Since(began), 1800*time.Millisecond)
					is.Equal(a.Status, 200)
					is.Equal(a.Body, "")
					is.Equal(send(s).Status, 200) // while it runs: a retry of the event, or another command or click
					is.Equal(len(s.Posts()), 0)
					is.NoErr(s.Wait(t.Context()))
					want := test.post
					if kind == "event" {
						is.Equal(len(got.events), 1)
						is.Equal(counts(t, s), map[string]int{"event acknowledged_for": 1, "event duplicate": 1})
						want = ""
					} else if want != "" {
						want += want
					}
					is.Equal(strings.Join(s.Posts(), ""), want)
					failed := strings.HasPrefix(test.post, `{"replace`) && !strings.Contains(test.post, "hello")
					if kind == "event" && test.when == "a reply that Slack cannot read" {
						failed = false // Slack ignores the result
					}
					is.Equal(strings.Contains(s.Logs(), "a task failed"), failed) // the response did not report it
					is.True(!strings.Contains(s.Logs(), "was lost"))
					is.True(!strings.Contains(s.Logs(), "canary"))
				})
			})
		}
	}
}

// TestAcknowledgementCountsFromTheRequest checks that the time until the acknowledgement starts
// with the request's headers, not with the end of its body.
func TestAcknowledgementCountsFromTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		var got record
		s := slacktest.New(t, got.features(func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(10 * time.Second)
			return nil, nil
		}))
		r := slacktest.Command(slacktest.Secret, "/tea")
		r.Body = slow{r.Body, time.Second}
		began := time.Now()
		is.Equal(s.Send(r).Status, 200)
		is.True(time.Since(began) <= 2*time.Second)
		is.NoErr(s.Wait(t.Context()))
	})
}

type slow struct {
	io.ReadCloser
	by time.Duration
}

func (s slow) Read(b []byte) (int, error) {
	time.Sleep(s.by)
	return s.ReadCloser.Read(b)
}

// TestShutdownBetweenAcknowledgementAndResult shuts down as function/ does, on a real connection:
// http.Server's own shutdown comes first.
func TestShutdownBetweenAcknowledgementAndResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		var got record
		s := slacktest.New(t, got.features(func(context.Context, event.Event) (*event.Event, error) {
			time.Sleep(10 * time.Second)
			return slack.Ephemeral("done"), nil
		}))
		server, conn := serve(t, s)
		began := time.Now()
		is.NoErr(slacktest.Command(slacktest.Secret, "/tea").Write(conn))
		status := make([]byte, len("HTTP/1.1 200"))
		_, err := io.ReadFull(conn, status)
		is.NoErr(err)
		is.Equal(string(status), "HTTP/1.1 200")
		is.Equal(time.Since(began), 1800*time.Millisecond)

		s.Drain() // SIGTERM
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		conn.Close()
		is.NoErr(server.Shutdown(ctx))
		is.Equal(len(s.Posts()), 0)
		is.NoErr(s.Wait(ctx))
		is.True(time.Since(began) < 11*time.Second)
		is.Equal(s.Posts(), []string{`{"response_type":"ephemeral","text":"done"}`})
	})
}

// TestShutdownThatCutsOff checks that a shutdown which cuts a receiver off logs it and cancels the
// receiver.
func TestShutdownThatCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		var got record
		s := slacktest.New(t, got.features(func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		is.Equal(s.Command("/tea").Status, 200)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.Wait(ctx)
		is.True(err != nil)
		is.True(strings.Contains(err.Error(), "1 tasks were cut off (slack command)"))
		synctest.Wait()
		is.NoErr(s.Wait(t.Context())) // the receiver was canceled, and its slot is free
	})
}

// TestBodyThatIsTooSlow checks that a slow body is given up after three seconds, when Slack has
// given up too.
func TestBodyThatIsTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := slacktest.New(t)
		_, conn := serve(t, s)
		r := slacktest.Command(slacktest.Secret, "/coffee ping")
		var wire bytes.Buffer
		is.NoErr(r.Write(&wire))
		began := time.Now()
		_, err := conn.Write(wire.Bytes()[:wire.Len()-1]) // all but the last byte
		is.NoErr(err)
		status := make([]byte, len("HTTP/1.1 408"))
		_, err = io.ReadFull(conn, status)
		is.NoErr(err)
		is.Equal(string(status), "HTTP/1.1 408")
		is.Equal(time.Since(began).Round(100*time.Millisecond), 3*time.Second)
		conn.Close()
		is.Equal(counts(t, s), map[string]int{"command rejected": 1})
	})
}

// serve serves one in-memory connection and returns its client end.
func serve(t *testing.T, h http.Handler) (*http.Server, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	listener := &one{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	listener.conn <- theirs
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { ours.Close(); _ = server.Close() })
	return server, ours
}

// one is a listener that accepts one connection.
type one struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (o *one) Accept() (net.Conn, error) {
	select {
	case conn := <-o.conn:
		return conn, nil
	case <-o.closed:
		return nil, net.ErrClosed
	}
}

func (o *one) Close() error {
	select {
	case <-o.closed:
	default:
		close(o.closed)
	}
	return nil
}

func (o *one) Addr() net.Addr { return &net.TCPAddr{} }

// TestRetryAfterTheLongestTime compares Retry-After with what POST / sends for the same receiver.
func TestRetryAfterTheLongestTime(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var got record
	s := slacktest.New(t, got.features(answering(nil, events.RetryAfter(math.MaxInt64, errFailed))))
	a := s.Event("Ev1", `{"type":"message"}`)
	is.Equal(a.Status, 503)
	is.Equal(a.Header.Get("Retry-After"), "9223372037")
}
