package binding_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"coffeebuddy/events/attribute"
	"coffeebuddy/events/binding"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// TestWhatReceiversGet has the rules of decoding, by what comes of a header, a member
// or data. Sections are those of the HTTP protocol binding and the JSON event format.
func TestWhatReceiversGet(t *testing.T) {
	t.Parallel()
	subject := func(e event.Event) any { return e.Subject() }
	source := func(e event.Event) any { return e.Source() }
	extension := func(e event.Event) any { return e.Extensions()["x"] }
	data := func(e event.Event) any { return string(e.Data()) }
	for _, test := range []struct {
		rule string
		name string // of a header or, in lower case, a member
		sent string
		get  func(event.Event) any
		want any
	}{
		{"HTTP 3.1.3.2: a percent-encoded character", "Ce-Subject", "a%20b", subject, "a b"},
		{"HTTP 3.1.3.2: in UTF-8", "Ce-Subject", "Euro%20%E2%82%AC%20%F0%9F%98%80", subject, "Euro € 😀"},
		{"HTTP 3.1.3.2: in lower-case digits", "Ce-Subject", "%e2%82%ac", subject, "€"},
		{"HTTP 3.1.3.2: that needed no encoding", "Ce-Subject", "%41%2F", subject, "A/"},
		{"HTTP 3.1.3.2: one round of decoding", "Ce-Subject", "%2541", subject, "%41"},
		{"HTTP 3.1.3.2: a plus is a plus", "Ce-Subject", "a+b", subject, "a+b"},
		{"HTTP 3.1.3.2: a quoted string", "Ce-Subject", `"a b"`, subject, "a b"},
		{"HTTP 3.1.3.2: its escapes first", "Ce-Subject", `"a\"\\\%41"`, subject, `a"\A`},
		{"HTTP 3.1.3.2: an encoded quote is no quote", "Ce-Subject", "%22a%22", subject, `"a"`},
		{"HTTP 3.1.3.2: a quote within", "Ce-Subject", `a"b"`, subject, `a"b"`},
		{"HTTP 3.1.3.2: quotes at both ends of more than one string", "Ce-Subject", `"a" and "b"`, subject, `"a" and "b"`},
		{"HTTP 3.1.3.2: an inch", "Ce-Subject", `"17 inch`, subject, `"17 inch`},
		{"HTTP 3.1.3.2: a quote that is escaped at the end", "Ce-Subject", `"a\"`, subject, `"a\"`},
		{"HTTP 3.1.3.2: a percent sign at the end", "Ce-Subject", "100%", subject, "100%"},
		{"HTTP 3.1.3.2: percent signs and encoded characters", "Ce-Subject", "5%-%25%2-%4", subject, "5%-%%2-%4"},
		{"HTTP 3.1.3.2: a percent sign before a sign", "Ce-Subject", "%+1%-1", subject, "%+1%-1"},
		{"HTTP 3.1.3.2: a percent sign in an extension", "Ce-X", "50%-off", extension, "50%-off"},
		{"HTTP 3.1.3.2: a percent sign in quotes", "Ce-Subject", `"100%"`, subject, "100%"},
		{"CE source: with a space that is encoded once", "Ce-Source", "https://e.example/a%20b", source, "https://e.example/a%20b"},
		{"CE source: with a space that is encoded twice", "Ce-Source", "https://e.example/a%2520b", source, "https://e.example/a%20b"},
		{"CE source: with a percent sign that is encoded once", "Ce-Source", "https://e.example/100%25", source, "https://e.example/100%25"},
		{"CE source: with quotes that are encoded once", "Ce-Source", "https://e.example/?x=%22y%22", source, "https://e.example/?x=%22y%22"},
		{"CE source: with bytes that are no UTF-8", "Ce-Source", "/caf%E9", source, "/caf%E9"},
		{"CE source: with a slash that is encoded once", "Ce-Source", "/a%2Fb", source, "/a/b"},
		{"CE dataschema: with a space that is encoded once", "Ce-Dataschema", "https://e.example/a%20b", func(e event.Event) any { return e.DataSchema() }, "https://e.example/a%20b"},
		{"HTTP 3.1.3.2: space around is none of it", "Ce-Subject", "  a ", subject, "a"},
		{"HTTP 3.1.3.2: raw UTF-8", "Ce-Subject", "café", subject, "café"},
		{"HTTP 3.1.3: an extension is text", "Ce-X", "7", extension, "7"},
		{"HTTP 3.1.3.1: names in any case", "cE-x", "7", extension, "7"},
		{"HTTP 3.1.1: the content type as it came", "Content-Type", "Text/Plain; Charset=UTF-8", func(e event.Event) any { return e.DataContentType() }, "Text/Plain; Charset=UTF-8"},
		{"CE source: as it came", "Ce-Source", "urn:A?b#%2520", func(e event.Event) any { return e.Source() }, "urn:A?b#%20"},
		{"CE time: with an offset", "Ce-Time", "2026-01-02T03:04:05.6%2B02:00", func(e event.Event) any { return e.Time().UTC().Format(time.RFC3339Nano) }, "2026-01-02T01:04:05.6Z"},

		{"JSON 2.2: a text", "x", `"a\u00e9\ud83d\ude00"`, extension, "aé😀"},
		{"JSON 2.2: an integer", "x", "-7", extension, int32(-7)},
		{"JSON 2.2: a boolean", "x", "true", extension, true},
		{"JSON 2.2: null is absent", "x", "null", extension, nil},
		{"JSON 2.2: percent signs are text", "subject", `"%41"`, subject, "%41"},
		{"JSON 3.1.1: data as it stands there", "data", ` {"a" : 1.0} `, data, `{"a" : 1.0}`},
		{"JSON 3.1.1: a string of JSON is JSON", "data", `"a"`, data, `"a"`},
		{"JSON 3.1.1: base64", "data_base64", `"/wA="`, data, "\xff\x00"},
		{"JSON 3.1.1: base64 of nothing", "data_base64", `""`, data, ""},
		{"JSON 3.1.1: escaped base64", "data_base64", `"\u002fwA="`, data, "\xff\x00"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			var got event.Event
			var err error
			if strings.ToLower(test.name) != test.name {
				header := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}}
				header.Set(test.name, strings.TrimSpace(test.sent)) // as net/http hands it over
				got, err = binding.Decode(binding.Binary, header, nil)
			} else {
				body := `{"specversion":"1.0","id":"1","source":"/s","type":"t","` + test.name + `":` + test.sent + `}`
				got, err = binding.Decode(binding.Structured, nil, []byte(body))
			}
			is.NoErr(err)
			is.Equal(test.get(got), test.want)
			is.NoErr(got.Validate())
		})
	}
}

// FuzzEncode: whatever an event holds, if it is valid it comes out as it went in, and its
// headers are printable ASCII.
func FuzzEncode(f *testing.F) {
	f.Add("1", "/s", "t", "", "", "", []byte(nil))
	f.Add(`a "b" 100% %41 ☕`, "urn:a?b#c", "t", `"quoted" \ é`, "http://example.com/%20", "7", []byte("1"))
	f.Add("100%", "/a%20b", "t", "%", "https://e.example/?x=%22y%22", `"`, []byte("{"))
	badEscape := regexp.MustCompile(`%([^0-9A-Fa-f]|.[^0-9A-Fa-f])`)
	f.Fuzz(func(t *testing.T, id, source, eventType, subject, schema, extension string, data []byte) {
		e := event.New()
		e.SetID(id)
		e.SetSource(source)
		e.SetType(eventType)
		if subject != "" {
			e.SetSubject(subject)
		}
		if schema != "" {
			e.SetDataSchema(schema)
		}
		e.SetExtension("strength", extension)
		e.DataEncoded = data
		if attribute.Check(e) != nil || badEscape.MatchString(e.Source()+" "+e.DataSchema()+" ") {
			t.Skip("no event may be like that, or its source is no URI, strictly, and is taken for one")
		}
		header := binding.Encode(e)
		for name, values := range header {
			if len(values) != 1 || strings.ContainsFunc(values[0], func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
				t.Errorf("%s: %q", name, values)
			}
		}
		got, err := binding.Decode(binding.Binary, header, data)
		if err != nil {
			t.Fatalf("%v: %v", header, err)
		}
		want := []string{e.ID(), e.Source(), e.Type(), e.Subject(), e.DataSchema(), extension, string(data)}
		for i, text := range []string{got.ID(), got.Source(), got.Type(), got.Subject(), got.DataSchema(), got.Extensions()["strength"].(string), string(got.Data())} {
			if text != want[i] {
				t.Errorf("%q, want %q", text, want[i])
			}
		}
	})
}
