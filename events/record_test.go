package events

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/matryer/is"
)

// reply returns an event with all that one can have.
func reply(t *testing.T) event.Event {
	t.Helper()
	e := event.New()
	e.SetID("id \x7f ☕")
	e.SetSource("/source?a=%20b#c")
	e.SetType("coffee.served")
	e.SetSubject("subject")
	e.SetDataSchema("https://example.com/schema")
	e.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600)))
	for name, value := range map[string]any{
		"text": "v", "number": 7, "flag": true, "bytes": []byte{0, 255}, "uri": types.URI{URL: url.URL{Scheme: "urn", Opaque: "x"}},
		"at": types.Timestamp{Time: time.Unix(1, 5).UTC()}, "empty": "",
	} {
		if err := e.Context.SetExtension(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.SetData("application/octet-stream", []byte("\x00\xff data")); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestRecordKeepsEverything that is sent of a reply.
func TestRecordKeepsEverything(t *testing.T) {
	t.Parallel()
	is, e := is.New(t), reply(t)
	v, err := verdictIn(recordOf(Verdict{Outcome: Retry, RetryAfter: 90 * time.Second, Reply: &e}))
	is.NoErr(err)
	is.Equal(v.Outcome, Retry)
	is.Equal(v.RetryAfter, 90*time.Second)
	is.Equal(attributes(*v.Reply), attributes(e))
	is.Equal(v.Reply.Data(), e.Data())
	is.Equal(v.Reply.DataBase64, e.DataBase64)
	is.Equal(recordOf(v), recordOf(Verdict{Outcome: Retry, RetryAfter: 90 * time.Second, Reply: &e}))

	v, err = verdictIn(recordOf(Verdict{Outcome: Accepted}))
	is.NoErr(err)
	is.Equal(v, Verdict{Outcome: Accepted})
}

// FuzzRecord: a record that another version has written, or a damaged one, is an error and
// nothing worse.
func FuzzRecord(f *testing.F) {
	f.Add(recordOf(Verdict{Outcome: Accepted}))
	e := event.New()
	e.SetID("1")
	e.SetSource("/")
	e.SetType("t")
	f.Add(recordOf(Verdict{Outcome: Accepted, Reply: &e}))
	f.Add([]byte{recordVersion, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte(strings.Repeat("\xff", 40)))
	f.Fuzz(func(t *testing.T, record []byte) {
		v, err := verdictIn(record)
		if err != nil {
			return
		}
		if _, err := verdictIn(recordOf(v)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRecordOfAnotherVersion(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	is.Equal(again([]byte{recordVersion + 1}), Verdict{Outcome: Duplicate, First: Accepted})
	is.Equal(again(nil), Verdict{Outcome: Duplicate, First: Accepted})
}
