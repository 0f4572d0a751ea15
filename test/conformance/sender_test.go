package conformance

import (
	"context"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/client"
	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/protocol"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/matryer/is"

	"coffeebuddy/events"
	"coffeebuddy/handler/handlertest"
)

// hard are texts that a header must encode, and the SDK's sender sends as they are. A text that
// is an encoding itself, such as %41 or "all quoted", is not among them: by the binding it means
// something else.
func hard() []string {
	return []string{
		"100%", "50%-1", "50%-off", "%", "%%", "%4", "%zz", "5% of 10%", "%+1", "a%",
		`"a" and "b"`, `"17 inch`, `17" inch`, `say "hi"`, `"`, `"a"b`, `a "b`, `"a\`, `\"a`, `"\"`,
		"a b", "a  b", "a,b", "a;b=c", "a=b", "a:b", "(a)", "<a>", "{a}", "[a]", "a|b", "a^b", "`a`", "~a", "'a'",
		"café", "☕", "日本語", "Ünïcödé", "😀", "é%",
	}
}

// TestWhatTheSDKSends comes as it was sent: Knative's own dispatchers send with this SDK, and an
// event that is refused with 400 is lost.
func TestWhatTheSDKSends(t *testing.T) {
	t.Parallel()
	var got []ce.Event
	receive := func(_ context.Context, e ce.Event) (*ce.Event, error) {
		got = append(got, e)
		return nil, nil //nolint:nilnil // accepted, without a reply
	}
	server := httptest.NewServer(handlertest.New(t, func(e *events.Events) error {
		for _, eventType := range append(hard(), "com.example.someevent") {
			if err := e.On(eventType, receive); err != nil {
				return err
			}
		}
		return nil
	}))
	defer server.Close()
	transport, err := cehttp.New(cehttp.WithTarget(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	sender, err := client.New(transport)
	if err != nil {
		t.Fatal(err)
	}
	uris := []string{ // whose escapes would not be URIs without them, or are no different
		"https://e.example/a%20b", "https://e.example/100%25", "https://e.example/?x=%22y%22", "https://e.example/%E2%98%95",
		"https://e.example/a%5Bb%5D", "https://e.example/#%22", "urn:e:100%25", "//e.example/%7Bid%7D", "/caf%E9", "/a%20b/c%20d",
		"https://e.example/?q=a+b&c=100%25", "https://user@e.example:8080/a;b=c?d=e#f", "//[2001:db8::1]/s",
	}
	for _, attribute := range []struct {
		name   string
		values []string
		set    func(*ce.Event, string)
		get    func(ce.Event) string
	}{
		{"id", hard(), (*ce.Event).SetID, ce.Event.ID},
		{"type", hard(), (*ce.Event).SetType, ce.Event.Type},
		{"subject", hard(), (*ce.Event).SetSubject, ce.Event.Subject},
		{
			"extension", hard(),
			func(e *ce.Event, value string) { e.SetExtension("strength", value) },
			func(e ce.Event) string { return e.Extensions()["strength"].(string) },
		},
		{"source", uris, (*ce.Event).SetSource, ce.Event.Source},
		{
			"dataschema",
			slices.DeleteFunc(slices.Clone(uris), func(uri string) bool { return uri[0] == '/' }), // which must be absolute
			(*ce.Event).SetDataSchema, ce.Event.DataSchema,
		},
		{
			"datacontenttype",
			[]string{"text/plain; charset=utf-8", `text/plain; title="100% \"hot\""`, "application/vnd.x.y+xml;q=1"},
			(*ce.Event).SetDataContentType, ce.Event.DataContentType,
		},
		{
			"time",
			[]string{"2026-01-02T03:04:05.000000006Z", "2026-01-02T03:04:05+23:59", "0001-01-02T03:04:05Z", "9999-12-31T23:59:59.999Z"},
			func(e *ce.Event, value string) { e.SetTime(instant(t, value)) },
			func(e ce.Event) string { return e.Time().Format(time.RFC3339Nano) },
		},
	} {
		for _, value := range attribute.values {
			t.Run(attribute.name+" "+value, func(t *testing.T) {
				is := is.New(t)
				sent := ce.New()
				sent.SetID("1")
				sent.SetSource("/s")
				sent.SetType("com.example.someevent")
				sent.SetDataContentType("text/plain")
				sent.DataEncoded = []byte("hot")
				attribute.set(&sent, value)
				is.NoErr(sent.Validate())
				got = nil
				is.True(protocol.IsACK(sender.Send(t.Context(), sent))) // 2xx
				is.Equal(len(got), 1)
				if attribute.name == "time" {
					is.True(got[0].Time().Equal(sent.Time()))
					return
				}
				is.Equal(attribute.get(got[0]), attribute.get(sent))
			})
		}
	}
}

func instant(t *testing.T, value string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, value)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
