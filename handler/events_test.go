package handler_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// event1 is a good event's headers; more replace or add to them, "-name" drops one.
func event1(more ...string) []string {
	header := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/boson/fn", "Ce-Type": "boson.fn", "Content-Type": "application/json"}
	var extra []string
	for i := 0; i < len(more); i++ {
		if name, drop := strings.CutPrefix(more[i], "-"); drop {
			delete(header, name)
			continue
		}
		if _, ok := header[more[i]]; ok {
			header[more[i]] = more[i+1]
		} else {
			extra = append(extra, more[i], more[i+1])
		}
		i++
	}
	for name, value := range header {
		extra = append(extra, name, value)
	}
	return extra
}

// TestBinaryEvents has the rules of binary mode, each with where it stands: in the HTTP
// protocol binding 1.0.2 or the CloudEvents specification 1.0.2, whose sections have no
// numbers. What is asked here beyond that is marked, too.
func TestBinaryEvents(t *testing.T) {
	t.Parallel()
	f := newFunction(t)
	malformed := func(attribute string) string { return `{"error":"malformed","attribute":"` + attribute + `"}` + "\n" }
	for _, test := range []struct {
		when   string
		header []string
		body   string
		code   int
		want   string // the body of an error, or the echoed message
	}{
		{"HTTP 3.1.3.1: what func invoke sends", event1("Ce-Time", "2026-01-01T00:00:00Z"), `{"message":"Hello World"}`, 200, `{"message":"Hello World"}`},
		{"HTTP 3.1.2: no data", event1(), "", 200, "null"},
		{"HTTP 3.1.1: text", event1("Content-Type", "text/plain; charset=utf-8"), "hi", 200, `"hi"`},
		{"HTTP 3.1.2: JSON that HTML would escape", event1(), `"<é>&"`, 200, `"<é>&"`},
		{"HTTP 3.1.1: bytes", event1("Content-Type", "application/octet-stream"), "\xff\x00", 200, `"/wA="`},
		{"HTTP 3.1.1: no content type, JSON", event1("-Content-Type"), `[1]`, 200, `[1]`},
		{"HTTP 3.1.1: no content type, text", event1("-Content-Type"), `{`, 200, `"{"`},
		{"HTTP 3.1.1: a +json type", event1("Content-Type", "application/vnd.x+json"), `1`, 200, `1`},
		{"HTTP 3.1.3.1: an extension", event1("Ce-Partitionkey", ""), "1", 200, "1"},
		{"HTTP 3.1.3.2: a percent-encoded id", event1("Ce-Id", "caf%C3%A9%20%22"), "1", 200, "1"},
		{"HTTP 3.1.3.2: a quoted id", event1("Ce-Id", `"a \"b\" c"`), "1", 200, "1"},
		{"HTTP 3.1.3.2: an id of raw UTF-8, as the SDKs send it", event1("Ce-Id", "café"), "1", 200, "1"},
		{"CE subject: a subject", event1("Ce-Subject", "s"), "1", 200, "1"},
		{"CE dataschema: a schema", event1("Ce-Dataschema", "http://example.com/s"), "1", 200, "1"},
		{"HTTP 3: headers are beside the point in structured mode", append(event1(), "X-Other", "1"), "1", 200, "1"},

		{"CE specversion: no specversion", event1("-Ce-Specversion"), "1", 400, malformed("specversion")},
		{"CE specversion: an empty specversion", event1("Ce-Specversion", ""), "1", 400, malformed("specversion")},
		{"CE specversion: specversion 0.3", event1("Ce-Specversion", "0.3"), "1", 400, malformed("specversion")},
		{"CE specversion: specversion 1.1", event1("Ce-Specversion", "1.1"), "1", 400, malformed("specversion")},
		{"CE specversion: only a foreign ce- header", []string{"Ce-Foo", "x"}, "1", 400, malformed("specversion")},
		{"CE id: no id", event1("-Ce-Id"), "1", 400, malformed("id")},
		{"CE id: an empty id", event1("Ce-Id", ""), "1", 400, malformed("id")},
		{"CE id: a blank id", event1("Ce-Id", "%20"), "1", 400, malformed("id")},
		{"HTTP 3.1.3.1: two ids", append(event1(), "Ce-Id", "2"), "1", 400, malformed("id")},
		{"HTTP 3.1.3.2: an id that is not UTF-8", event1("Ce-Id", "%C0%A0"), "1", 400, malformed("id")},
		{"HTTP 3.1.3.2: an id of raw bytes", event1("Ce-Id", "\xff"), "1", 400, malformed("id")},
		{"CE type system: an id with a line feed", event1("Ce-Id", "%0a"), "1", 400, malformed("id")},
		{"CE type system: an id with a control character of Latin-1", event1("Ce-Id", "%C2%85"), "1", 400, malformed("id")},
		{"CE type system: an id with a noncharacter", event1("Ce-Id", "%EF%BF%BF"), "1", 400, malformed("id")},
		{"HTTP 3.1.3.2: a percent sign that encodes nothing, as the SDKs send it", event1("Ce-Id", "100%"), "1", 200, "1"},
		{"HTTP 3.1.3.2: an id whose quotes do not end, as the SDKs send it", event1("Ce-Id", `"a`), "1", 200, "1"},
		{"HTTP 3.1.3.2: an id that goes on after its quotes, as the SDKs send it", event1("Ce-Id", `"a"b`), "1", 200, "1"},
		{"HTTP 3.1.3.2: an id that escapes its end, as the SDKs send it", event1("Ce-Id", `"a\`), "1", 200, "1"},
		{"HTTP 3.1.3.2: an id whose percent signs make no UTF-8", event1("Ce-Id", "50%ff"), "1", 400, malformed("id")},
		{"CE source: no source", event1("-Ce-Source"), "1", 400, malformed("source")},
		{"CE source: an empty source", event1("Ce-Source", ""), "1", 400, malformed("source")},
		{"CE source: a source that is no URI", event1("Ce-Source", "%zz"), "1", 400, malformed("source")},
		{"CE source: a source that is a URI only as it came", event1("Ce-Source", "a%20b"), "1", 200, "1"},
		{"CE source: a source with a space", event1("Ce-Source", "a b"), "1", 400, malformed("source")},
		{"CE type: no type", event1("-Ce-Type"), "1", 400, malformed("type")},
		{"CE type: an empty type", event1("Ce-Type", ""), "1", 400, malformed("type")},
		{"CE subject: an empty subject", event1("Ce-Subject", ""), "1", 400, malformed("subject")},
		{"CE time: a time that is none", event1("Ce-Time", "yesterday"), "1", 400, malformed("time")},
		{"CE time: a time without a zone", event1("Ce-Time", "2026-01-01T00:00:00"), "1", 400, malformed("time")},
		{"CE time: a time with an hour of one digit", event1("Ce-Time", "2020-01-02T3:04:05Z"), "1", 400, malformed("time")},
		{"CE time: a time with a comma", event1("Ce-Time", "2020-01-02T03:04:05,5Z"), "1", 400, malformed("time")},
		{"CE time: a time in small letters", event1("Ce-Time", "2020-01-02t03:04:05z"), "1", 200, "1"},
		{"CE time: a leap second", event1("Ce-Time", "2016-12-31T23:59:60.5Z"), "1", 200, "1"},
		{"CE time: a time with an offset of a day", event1("Ce-Time", "2020-01-02T03:04:05%2B24:00"), "1", 400, malformed("time")},
		{"CE time: a leap second at noon", event1("Ce-Time", "2016-12-31T12:00:60Z"), "1", 400, malformed("time")},
		{"CE source: a source with two fragments", event1("Ce-Source", "/x#a#b"), "1", 400, malformed("source")},
		{"CE source: a source with escaped brackets", event1("Ce-Source", "/x%255B1%255D"), "1", 200, "1"},
		{"CE source: an opaque source with brackets", event1("Ce-Source", "urn:a[b"), "1", 400, malformed("source")},
		{"CE source: a source with brackets in its path", event1("Ce-Source", "a[b"), "1", 400, malformed("source")},
		{"CE source: a source at an address", event1("Ce-Source", "//[::1]/s"), "1", 200, "1"},
		{"HTTP 3.1.1: a content type of one word", event1("Content-Type", "json"), "1", 400, malformed("datacontenttype")},
		{"HTTP 3: two content codings", event1("Content-Encoding", "identity", "Content-Encoding", "gzip"), "1", 415, `{"error":"malformed"}` + "\n"},
		{"HTTP 3.1.1: two content types, one of a batch", append(event1("-Content-Type"), "Content-Type", "text/plain", "Content-Type", "application/cloudevents-batch+json"), "1", 400, malformed("datacontenttype")},
		{"HTTP 3: two content types and no event", []string{"Content-Type", "application/json", "Content-Type", "text/plain"}, "{}", 415, `{"error":"malformed"}` + "\n"},
		{"CE dataschema: a relative schema", event1("Ce-Dataschema", "/s"), "1", 400, malformed("dataschema")},
		{"HTTP 3.1.1: a content type twice over", event1("Ce-Datacontenttype", "text/plain"), "1", 400, malformed("datacontenttype")},
		{"HTTP 3.1.1: a content type that is none", event1("Content-Type", "a b"), "1", 400, malformed("datacontenttype")},
		{"HTTP 3.1.3.1: an attribute without a name", event1("Ce-", "x"), "1", 400, malformed("extension")},
		{"HTTP 3.1.3.1: an attribute with a dash", event1("Ce-My-Ext", "x"), "1", 400, malformed("extension")},
		{"HTTP 3.1.3.1: an attribute with an underscore", event1("Ce-My_ext", "x"), "1", 400, malformed("extension")},
		{"HTTP 3.1.3.1: an attribute called data", event1("Ce-Data", "x"), "1", 400, malformed("data")},
		{"CE type system: an extension that is no text", event1("Ce-Foo", "%00"), "1", 400, malformed("extension")},
		{"HTTP 3.1.2: JSON that is none", event1(), "{", 400, malformed("data")},
		{"HTTP 3.1.2: JSON that is not UTF-8", event1(), "\"\xff\"", 400, malformed("data")},

		{"Knative: a type that nobody receives", event1("Ce-Type", "canary"), "1", 422, `{"error":"unknown_type"}` + "\n"},
		{"here: a type that only Slack's routes may send", event1("Ce-Type", "com.slack.command"), "1", 422, `{"error":"rejected"}` + "\n"},
		{"here: a body over 1 MiB", event1("Content-Type", "text/plain"), strings.Repeat("x", 1<<20+1), 413, `{"error":"malformed"}` + "\n"},
		{"HTTP 3: a compressed body", event1("Content-Encoding", "gzip"), "x", 415, `{"error":"malformed"}` + "\n"},
	} {
		t.Run(test.when, func(t *testing.T) {
			checkAnswer(is.New(t), f.ask("POST", "/", test.body, test.header...), test.code, test.want)
		})
	}
}

// checkAnswer checks an error's body, or what was echoed.
func checkAnswer(is *is.I, w *httptest.ResponseRecorder, code int, want string) {
	is.Helper()
	is.Equal(w.Code, code)
	if code >= 400 {
		is.Equal(w.Body.String(), want)
		is.Equal(w.Header().Get("Content-Type"), "application/json")
		for name := range w.Header() {
			is.True(!strings.HasPrefix(name, "Ce-")) // an error is no event
		}
		return
	}
	var echo struct {
		Message                   json.RawMessage
		App, Environment, Version string
	}
	is.NoErr(json.Unmarshal(w.Body.Bytes(), &echo))
	is.Equal(string(echo.Message), want)
	is.Equal(echo.App+" "+echo.Environment+" "+echo.Version, "coffeebuddy test v1.2.3")
	is.True(strings.HasSuffix(w.Body.String(), "\n"))
}

// TestStructuredEvents has the rules of structured mode, in the JSON event format 1.0.2.
func TestStructuredEvents(t *testing.T) {
	t.Parallel()
	f := newFunction(t)
	with := func(more string) string {
		return `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn"` + more + `}`
	}
	malformed := func(attribute string) string {
		if attribute == "" {
			return `{"error":"malformed"}` + "\n"
		}
		return `{"error":"malformed","attribute":"` + attribute + `"}` + "\n"
	}
	for _, test := range []struct {
		when, body string
		code       int
		want       string
	}{
		{"JSON 3.1: JSON data", with(`,"data":{"a":[1, 2]}`), 200, `{"a":[1,2]}`},
		{"JSON 3.1: no data", with(""), 200, "null"},
		{"JSON 3.1: null data", with(`,"data":null`), 200, "null"},
		{"JSON 3.1: text", with(`,"datacontenttype":"text/plain","data":"hi"`), 200, `"hi"`},
		{"JSON 3.1: base64", with(`,"datacontenttype":"text/plain","data_base64":"aGk="`), 200, `"hi"`},
		{"JSON 2.2: null for what is absent", with(`,"subject":null,"time":null,"foo":null,"data":1`), 200, "1"},
		{"JSON 2.2: extensions of each type", with(`,"a":"x","b":true,"c":-2147483648,"data":1`), 200, "1"},
		{"JSON 3: all of it", with(`,"subject":"s","time":"2026-01-01T00:00:00.5+02:00","dataschema":"http://e/s","datacontenttype":"application/json","data":1`), 200, "1"},
		{"JSON 2.2: an emoji as a pair", with(`,"subject":"\ud83d\ude00","data":1`), 200, "1"},
		{"JSON 2.2: a replacement character of its own", with(`,"subject":"\ufffd","data":1`), 200, "1"},
		{"JSON 3: white space", " \n" + with("") + "\n ", 200, "null"},

		{"JSON 3: nothing", "", 400, malformed("")},
		{"JSON 3: not JSON", "hi", 400, malformed("")},
		{"JSON 3: cut short", with("")[:20], 400, malformed("")},
		{"JSON 3: more after the end", with("") + "{}", 400, malformed("")},
		{"JSON 3: a list", "[" + with("") + "]", 400, malformed("")},
		{"JSON 3: null", "null", 400, malformed("")},
		{"JSON 3: not UTF-8", with(",\"foo\":\"\xff\""), 400, malformed("")},
		{"here: too deep", with(`,"data":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000)), 400, malformed("")},
		{"here: too many members", with(func() string {
			var members strings.Builder
			for i := range 300 {
				fmt.Fprintf(&members, `,"x%d":1`, i)
			}
			return members.String()
		}()), 400, malformed("")},
		{"JSON 3: an empty object", "{}", 400, malformed("specversion")},
		{"CE specversion: specversion 0.3", strings.Replace(with(""), "1.0", "0.3", 1), 400, malformed("specversion")},
		{"JSON 2.2: a null id", strings.Replace(with(""), `"1"`, `null`, 1), 400, malformed("id")},
		{"JSON 2.2: an id that is a number", strings.Replace(with(""), `"1"`, `1`, 1), 400, malformed("id")},
		{"JSON 2.2: half a surrogate pair", strings.Replace(with(""), `"1"`, `"\ud800"`, 1), 400, malformed("id")},
		{"JSON 2.2: an escaped control character", strings.Replace(with(""), `"1"`, `"\u0007"`, 1), 400, malformed("id")},
		{"JSON 3: a specversion twice", with(`,"specversion":"1.0"`), 400, malformed("specversion")},
		{"JSON 3: an extension twice", with(`,"foo":1,"foo":2`), 400, malformed("extension")},
		{"CE attribute names: an ID that is another name", with(`,"ID":"2"`), 400, malformed("extension")},
		{"CE attribute names: a name with a dash", with(`,"my-ext":"x"`), 400, malformed("extension")},
		{"CE attribute names: an empty name", with(`,"":"x"`), 400, malformed("extension")},
		{"JSON 2.2: an extension that is an object", with(`,"foo":{}`), 400, malformed("extension")},
		{"JSON 2.2: an extension that is a list", with(`,"foo":[]`), 400, malformed("extension")},
		{"JSON 2.2: an extension with a fraction", with(`,"foo":1.5`), 400, malformed("extension")},
		{"JSON 2.2: an extension over 32 bits", with(`,"foo":2147483648`), 400, malformed("extension")},
		{"JSON 2.2: a type that is true", with(`,"subject":true`), 400, malformed("subject")},
		{"JSON 2.2: a replacement character beside a pair", with(`,"subject":"\ufffd\ud83d\ude00\\ud800","data":1`), 200, "1"},
		{"JSON 2.2: halves in the wrong order", with(`,"subject":"\ude00\ud83d"`), 400, malformed("subject")},
		{"JSON 2.2: a pair and a half", with(`,"subject":"\ud83d\ude00\ud83d"`), 400, malformed("subject")},
		{"JSON 3.1: base64 in lines", with(`,"data_base64":"aGk=\n"`), 400, malformed("data_base64")},
		{"JSON 2.2: a bad time", with(`,"time":"now"`), 400, malformed("time")},
		{"JSON 3.1: both kinds of data", with(`,"data":1,"data_base64":"aGk="`), 400, malformed("data_base64")},
		{"JSON 3.1: base64 that is none", with(`,"data_base64":"!"`), 400, malformed("data_base64")},
		{"JSON 3.1: base64 that is a number", with(`,"data_base64":1`), 400, malformed("data_base64")},
		{"JSON 3.1: base64 that is a list", with(`,"data_base64":[]`), 400, malformed("data_base64")},
		{"JSON 3.1: base64 of what is not JSON", with(`,"datacontenttype":"application/json","data_base64":"ew=="`), 400, malformed("data")},
		{"JSON 3.1: text that is a number", with(`,"datacontenttype":"text/plain","data":1`), 400, malformed("data")},
		{"Knative: a type that nobody receives", strings.Replace(with(""), "boson.fn", "canary", 1), 422, `{"error":"unknown_type"}` + "\n"},
		{"here: a body over 1 MiB", with(`,"data":"` + strings.Repeat("x", 1<<20) + `"`), 413, malformed("")},
	} {
		t.Run(test.when, func(t *testing.T) {
			w := f.ask("POST", "/", test.body, "Content-Type", "application/cloudevents+json; charset=UTF-8")
			checkAnswer(is.New(t), w, test.code, test.want)
		})
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	f := newFunction(t)
	structured := `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","data":{}}`
	for _, test := range []struct {
		contentType, body string
		code              int
	}{
		{"application/json", "{}", 200},
		{"Application/JSON ; charset=utf-8", "{}", 200},
		{"application/json;", "{}", 200},
		{"application/json", " {} ", 200},
		{"application/json", "", 400},
		{"application/json", " ", 400},
		{"application/json", "{", 400},
		{"application/json", "[]", 400},
		{"application/json", "null", 400},
		{"application/json", `"x"`, 400},
		{"application/json", "{}{}", 400},
		{"application/json", "\xef\xbb\xbf{}", 400},
		{"application/json", "{\"a\":\"\xff\"}", 400},
		{"application/json", structured, 415}, // an event whose content type is wrong
		{"application/json; charset=utf-8", " " + structured, 415},
		{"application/json", `{"id":1,"source":2,"type":3,"specversion":4}`, 415},
		{"application/json", `{"specversion":"1.0","id":"1","source":"/s"}`, 200},
		{"application/json", `{"event":{"specversion":"1.0","id":"1","source":"/s","type":"t"}}`, 200},
		{"application/cloudevents+json", structured, 200},
		{"Application/CloudEvents+JSON;x=y", structured, 200},
		{"application/cloudevents", structured, 415},
		{"application/cloudevents+xml", structured, 415},
		{"application/cloudevents+avro", structured, 415},
		{"application/cloudevents-batch+json", "[" + structured + "]", 415},
		{"application/cloudevents-batch+json; charset=utf-8", "[]", 415},
		{"application/cloudevents-batch", "[]", 415},
		{"application/cloudeventsandmore", "[]", 415},
		{"", "{}", 415},
		{"text/plain", "{}", 415},
		{"application/x-www-form-urlencoded", "a=b", 415},
		{"application/problem+json", "{}", 415},
		{"text/plain", strings.Repeat("x", 1<<20+1), 415}, // the media type is judged first
	} {
		t.Run(test.contentType+" "+test.body[:min(8, len(test.body))], func(t *testing.T) {
			is := is.New(t)
			is.Equal(f.ask("POST", "/", test.body, "Content-Type", test.contentType).Code, test.code)
		})
	}
	is := is.New(t)
	is.Equal(f.ask("POST", "/", structured, append(event1("-Content-Type"), "Content-Type", "application/cloudevents+json", "Content-Type", "x/y")...).Code, 415)
	is.Equal(f.ask("POST", "/", "[]", event1("Content-Type", "application/cloudevents-batch+json")...).Code, 415) // with headers of an event, too
}

// TestEventWithTheWrongContentTypeSaysSo: as plain JSON it would be accepted and lost.
func TestEventWithTheWrongContentTypeSaysSo(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	w := f.ask("POST", "/", `{"specversion":"1.0","id":"1","source":"/s","type":"coffee.ordered"}`, "Content-Type", "application/json")
	is.Equal(w.Code, 415)
	is.Equal(w.Body.String(), `{"error":"malformed","attribute":"datacontenttype"}`+"\n")
	is.Equal(f.series(`coffeebuddy_events_total{outcome="malformed"}`), "1")
}

// TestEchoIsBounded for plain JSON and events alike, by the data.
func TestEchoIsBounded(t *testing.T) {
	t.Parallel()
	f := newFunction(t)
	const limit = 64 << 10
	object := func(size int) string { return `{"a":"` + strings.Repeat("x", size-len(`{"a":""}`)) + `"}` }
	for size, code := range map[int]int{limit: 200, limit + 1: 413} {
		is := is.New(t)
		is.Equal(f.ask("POST", "/", object(size), "Content-Type", "application/json").Code, code)
		is.Equal(f.ask("POST", "/", object(size), event1()...).Code, code)
		structured := `{"specversion":"1.0","id":"1","source":"/s","type":"boson.fn","data":` + object(size) + `}`
		is.Equal(f.ask("POST", "/", structured, "Content-Type", "application/cloudevents+json").Code, code)
	}
	is := is.New(t)
	is.Equal(f.ask("POST", "/", object(limit+1), event1()...).Body.String(), `{"error":"malformed"}`+"\n")
	is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
	is.NoErr(f.On("coffee.ordered", answering(nil, nil)))
	is.Equal(f.ask("POST", "/", object(limit+1), event1("Ce-Type", "coffee.ordered")...).Code, 204) // nothing is echoed
}

// TestWithoutEchoNobodyReceivesWhatItWould: acknowledged, it would be lost.
func TestWithoutEchoNobodyReceivesWhatItWould(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.Echo = false })
	for _, w := range []*httptest.ResponseRecorder{
		f.ask("POST", "/", `{"a":1}`, event1()...),
		f.ask("POST", "/", `{"a":1}`, "Content-Type", "application/json"),
	} {
		is.Equal(w.Code, 422)
		is.Equal(w.Body.String(), `{"error":"unknown_type"}`+"\n")
	}
	is.Equal(f.ask("POST", "/", "{", "Content-Type", "application/json").Code, 400)

	// A feature may receive them in its place: plain JSON is the data of such an event.
	is.NoErr(f.On("boson.fn", func(_ context.Context, e event.Event) (*event.Event, error) {
		if string(e.Data()) == `{"a":0}` {
			return nil, nil
		}
		reply := event.New()
		reply.SetType("coffee.served")
		return &reply, reply.SetData("text/plain", e.Data())
	}))
	w := f.ask("POST", "/", `{"a":1}`, "Content-Type", "application/json")
	is.Equal(w.Code, 200)
	is.Equal(w.Body.String(), `{"a":1}`)
	is.Equal(w.Header().Get("Content-Type"), "text/plain")
	is.Equal(w.Header().Get("Ce-Type"), "") // who sends plain JSON gets no event
	is.Equal(f.ask("POST", "/", `{"a":0}`, "Content-Type", "application/json").Code, 204)
}

func TestEchoIsAnEvent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	w := newFunction(t, func(c *config) { c.App = "kaffee küche" }).ask("POST", "/", `{"a":1}`, event1()...)
	is.Equal(w.Header().Get("Ce-Specversion"), "1.0")
	is.Equal(w.Header().Get("Ce-Type"), "coffeebuddy.echo")
	is.Equal(w.Header().Get("Ce-Source"), "//coffeebuddy/kaffee%2520k%25C3%25BCche") // escaped for the URI, then for the header
	is.True(w.Header().Get("Ce-Id") != "")
	_, err := time.Parse(time.RFC3339Nano, w.Header().Get("Ce-Time"))
	is.NoErr(err)
	is.Equal(w.Header().Get("Content-Type"), "application/json")
}

func TestReceiverDecidesTheStatus(t *testing.T) {
	t.Parallel()
	reply := func(change func(*event.Event)) *event.Event {
		e := event.New()
		e.SetType("coffee.served")
		e.SetSource("/kitchen")
		change(&e)
		return &e
	}
	canary := errors.New("canary")
	for _, test := range []struct {
		when    string
		receive events.Receiver
		code    int
		body    string
		again   string
		outcome string
	}{
		{"accepted", answering(nil, nil), 204, "", "", "accepted"},
		{"a reply", answering(reply(func(e *event.Event) { _ = e.SetData("text/plain", "hot") }), nil), 200, "hot", "", "accepted"},
		{"a reply without data", answering(reply(func(*event.Event) {}), nil), 200, "", "", "accepted"},
		{"a reply that is no event", answering(&event.Event{}, nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply without a type", answering(reply(func(e *event.Event) { e.SetType("") }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply of version 0.3", answering(reply(func(e *event.Event) { e.SetSpecVersion("0.3") }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply with a line feed in it", answering(reply(func(e *event.Event) { e.SetSubject("a\r\nCe-Evil: 1") }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply with a source that is no URI", answering(reply(func(e *event.Event) { e.SetSource("a[b") }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply with a content type that is none", answering(reply(func(e *event.Event) { e.SetDataContentType("a\r\nb") }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply of JSON that is none", answering(reply(func(e *event.Event) { _ = e.SetData("application/json", []byte("{")) }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply with an extension that no event has", answering(reply(func(e *event.Event) { e.Context.(*event.EventContextV1).Extensions = map[string]any{"my-ext": 1} }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply with an extension without a name", answering(reply(func(e *event.Event) { e.Context.(*event.EventContextV1).Extensions = map[string]any{"": 1} }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a reply with an extension of no type", answering(reply(func(e *event.Event) { e.Context.(*event.EventContextV1).Extensions = map[string]any{"x": struct{}{}} }), nil), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"an error beside a reply", answering(reply(func(*event.Event) {}), canary), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"an error", answering(nil, canary), 500, `{"error":"failed"}` + "\n", "", "failed"},
		{"a permanent error", answering(nil, events.Permanent(canary)), 422, `{"error":"rejected"}` + "\n", "", "rejected"},
		{"a permanent error, wrapped", answering(nil, fmt.Errorf("x: %w", events.Permanent(canary))), 422, `{"error":"rejected"}` + "\n", "", "rejected"},
		{"come back", answering(nil, events.RetryAfter(90*time.Second, canary)), 503, `{"error":"retry"}` + "\n", "90", "retry"},
		{"come back soon", answering(nil, events.RetryAfter(1100*time.Millisecond, canary)), 503, `{"error":"retry"}` + "\n", "2", "retry"},
		{"come back now", answering(nil, events.RetryAfter(-1, canary)), 503, `{"error":"retry"}` + "\n", "1", "retry"},
		{"a panic", func(context.Context, event.Event) (*event.Event, error) { panic("canary") }, 500, `{"error":"failed"}` + "\n", "", "failed"},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			f := newFunction(t)
			is.NoErr(f.On("coffee.ordered", test.receive))
			w := f.ask("POST", "/", "1", event1("Ce-Type", "coffee.ordered")...)
			is.Equal(w.Code, test.code)
			is.Equal(w.Body.String(), test.body)
			is.Equal(w.Header().Get("Retry-After"), test.again)
			is.Equal(w.Header().Get("Ce-Type") != "", test.code == 200) // nothing else may look like an event
			is.Equal(f.series(`coffeebuddy_events_total{outcome="`+test.outcome+`"}`), "1")
			is.True(!strings.Contains(f.logs.String(), "canary"))
		})
	}
}

func answering(reply *event.Event, err error) events.Receiver {
	return func(context.Context, event.Event) (*event.Event, error) { return reply, err }
}

func TestReplyHeadersArePrintableASCII(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.NoErr(f.On("coffee.ordered", func(context.Context, event.Event) (*event.Event, error) {
		e := event.New()
		e.SetID(`a "b" 100%`)
		e.SetType("coffee.served")
		e.SetSource("/kitchen")
		e.SetSubject("café ☕")
		e.SetExtension("strength", 7)
		return &e, nil
	}))
	w := f.ask("POST", "/", "", event1("Ce-Type", "coffee.ordered")...)
	is.Equal(w.Code, 200)
	is.Equal(w.Header().Get("Ce-Id"), "a%20%22b%22%20100%25")
	is.Equal(w.Header().Get("Ce-Subject"), "caf%C3%A9%20%E2%98%95")
	is.Equal(w.Header().Get("Ce-Strength"), "7")
}

func TestReceiverGetsTheEvent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	var got event.Event
	is.NoErr(f.On("coffee.ordered", func(_ context.Context, e event.Event) (*event.Event, error) {
		got = e
		return nil, nil
	}))
	f.ask("POST", "/", "two", event1("Ce-Type", "coffee.ordered", "Content-Type", "text/plain",
		"Ce-Subject", "caf%C3%A9", "Ce-Time", "2026-01-02T03:04:05Z", "Ce-Dataschema", "http://example.com/s", "Ce-Strength", "7")...)
	is.NoErr(got.Validate())
	is.Equal(got.ID(), "1")
	is.Equal(got.Source(), "/boson/fn")
	is.Equal(got.Subject(), "café")
	is.Equal(got.Time().Format(time.RFC3339), "2026-01-02T03:04:05Z")
	is.Equal(got.DataSchema(), "http://example.com/s")
	is.Equal(got.DataContentType(), "text/plain")
	is.Equal(got.Extensions(), map[string]any{"strength": "7"})
	is.Equal(string(got.Data()), "two")
}

func TestDeadlineIsAnsweredAndTheReceiverKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t, func(c *config) { c.EventsInFlight = 1 })
		ended := make(chan error, 1)
		is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			time.Sleep(time.Minute) // does not heed its deadline
			ended <- ctx.Err()
			return nil, nil
		}))
		asked := time.Now()
		w := f.ask("POST", "/", "1", event1("Ce-Type", "coffee.ordered")...)
		is.Equal(w.Code, 503)
		is.Equal(w.Body.String(), `{"error":"timeout"}`+"\n")
		is.Equal(time.Since(asked), 10*time.Second)
		is.Equal(f.series("coffeebuddy_events_in_flight"), "1")

		again := f.ask("POST", "/", "1", event1()...)
		is.Equal(again.Code, 503) // the place is still taken
		is.Equal(again.Header().Get("Retry-After"), "1")
		is.Equal(again.Body.String(), `{"error":"overloaded"}`+"\n")
		is.Equal(f.ask("GET", "/health/ready", "").Code, 200)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		is.True(f.Wait(ctx) != nil) // cut off
		time.Sleep(time.Minute)
		is.Equal(<-ended, context.DeadlineExceeded)
		is.Equal(f.ask("POST", "/", "1", event1()...).Code, 200)
		is.NoErr(f.Wait(t.Context()))
	})
}

func TestReceiverThatHeedsItsDeadlineTimesOutToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		f := newFunction(t)
		is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("order: %w", ctx.Err())
		}))
		is.Equal(f.ask("POST", "/", "1", event1("Ce-Type", "coffee.ordered")...).Code, 503)
		synctest.Wait()
		is.Equal(f.series(`coffeebuddy_events_total{outcome="timeout"}`), "1")
	})
}

func TestClientWhoLeavesCancelsOnlyItsOwnReceiver(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	entered, left := make(chan string, 2), make(chan string, 2)
	finish := make(chan struct{})
	is.NoErr(f.On("coffee.ordered", func(ctx context.Context, e event.Event) (*event.Event, error) {
		entered <- e.ID()
		select {
		case <-ctx.Done():
			left <- e.ID()
		case <-finish:
		}
		return nil, ctx.Err()
	}))
	server := httptest.NewServer(f)
	defer server.Close()
	send := func(ctx context.Context, id string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, "POST", server.URL, strings.NewReader("1"))
		if err != nil {
			return nil, err
		}
		header := event1("Ce-Type", "coffee.ordered", "Ce-Id", id)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		return http.DefaultClient.Do(req)
	}
	stayed := make(chan int, 1)
	go func() {
		resp, err := send(context.Background(), "stays")
		if err != nil {
			stayed <- 0
			return
		}
		resp.Body.Close()
		stayed <- resp.StatusCode
	}()
	is.Equal(<-entered, "stays")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	resp, err := send(ctx, "leaves")
	if err == nil {
		resp.Body.Close()
	}
	is.True(err != nil)
	is.Equal(<-left, "leaves")
	close(finish)
	is.Equal(<-stayed, 204)
}

// TestReadDeadlineDoesNotEndAReceiver is about net/http: the server's read timeout
// must not look as if the sender had left, while the receiver works.
func TestReadDeadlineDoesNotEndAReceiver(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	is.NoErr(f.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		select {
		case <-time.After(600 * time.Millisecond):
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	server := httptest.NewUnstartedServer(f)
	server.Config.ReadTimeout = 200 * time.Millisecond
	server.Start()
	defer server.Close()
	resp := raw(t, server.Listener.Addr(), "POST / HTTP/1.1\r\nHost: x\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\n"+
		"Ce-Source: /s\r\nCe-Type: coffee.ordered\r\nContent-Length: 1\r\n\r\n1", "POST")
	is.Equal(resp.StatusCode, 204)
}

func TestBodiesOnTheWire(t *testing.T) {
	t.Parallel()
	f := newFunction(t, func(c *config) { c.EventsInFlight = 1 })
	server := httptest.NewUnstartedServer(f)
	server.Start()
	defer server.Close()
	head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	for _, test := range []struct {
		when, request string
		code          int
	}{
		{"one byte over 1 MiB, announced", head + "Content-Length: 1048577\r\n\r\n", 413},
		{"a terabyte, announced", head + "Content-Length: 1099511627776\r\n\r\n", 413},
		{"chunked", head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200},
		{"chunked over 1 MiB", head + "Transfer-Encoding: chunked\r\n\r\n100001\r\n" + strings.Repeat("x", 1<<20+1) + "\r\n0\r\n\r\n", 413},
		{"chunks that are none", head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
		{"it asks first", head + "Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n", 413},
	} {
		t.Run(test.when, func(t *testing.T) {
			is := is.New(t)
			resp := raw(t, server.Listener.Addr(), test.request, "POST")
			is.Equal(resp.StatusCode, test.code)
			_, _ = io.Copy(io.Discard, resp.Body)
			eventually(t, func() bool { return f.series("coffeebuddy_events_in_flight") == "0" })
		})
	}

	t.Run("a client that closes its side after its body", func(t *testing.T) {
		is := is.New(t)
		for range 100 {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			is.NoErr(err)
			_, err = io.WriteString(conn, head+"Content-Length: 2\r\n\r\n{}")
			is.NoErr(err)
			is.NoErr(conn.(*net.TCPConn).CloseWrite())
			answer, err := io.ReadAll(conn)
			is.NoErr(err)
			is.True(strings.HasPrefix(string(answer), "HTTP/1.1 200 "))
			conn.Close()
			eventually(t, func() bool { return f.series("coffeebuddy_events_in_flight") == "0" })
		}
	})

	t.Run("a client that stops within its body", func(t *testing.T) {
		is := is.New(t)
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		is.NoErr(err)
		_, err = io.WriteString(conn, head+"Content-Length: 100\r\n\r\n{")
		is.NoErr(err)
		is.NoErr(conn.(*net.TCPConn).CloseWrite())
		answer, err := io.ReadAll(conn)
		is.NoErr(err)
		is.True(strings.HasPrefix(string(answer), "HTTP/1.1 400 "))
		conn.Close()
		eventually(t, func() bool { return f.series("coffeebuddy_events_in_flight") == "0" })
	})
}

// TestAnswersDoNotWaitForABodyThatIsNotRead: net/http would read up to 256 KiB of it
// before it sends the answer.
func TestAnswersDoNotWaitForABodyThatIsNotRead(t *testing.T) {
	t.Parallel()
	f := newFunction(t, func(c *config) { c.EventsInFlight = 1 })
	server := httptest.NewServer(f)
	defer server.Close()
	announced := " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: "
	raw(t, server.Listener.Addr(), "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", "GET")
	for _, test := range []struct {
		when, request string
		code          int
	}{
		{"a probe", "GET /health/ready" + announced + "x\r\n\r\n", 200},
		{"an unknown path", "POST /x" + announced + "x\r\n\r\n", 404},
		{"an unclean path", "POST //x" + announced + "x\r\n\r\n", 404},
		{"a wrong method", "PUT /" + announced + "x\r\n\r\n{", 405},
		{"a wrong media type", "POST /" + announced + "x\r\n\r\n{", 415},
		{"too large", "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1048577\r\n\r\n", 413},
	} {
		t.Run(test.when, func(t *testing.T) {
			is := is.New(t)
			resp := raw(t, server.Listener.Addr(), test.request, strings.Fields(test.request)[0])
			is.Equal(resp.StatusCode, test.code)
			is.True(resp.Close)              // the rest of the body is not the next request
			is.True(resp.ContentLength >= 0) // its end does not wait for the connection's
		})
	}
	t.Run("a handler that writes nothing", func(t *testing.T) {
		is := is.New(t)
		silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handler.Lingering(w, r, func(http.ResponseWriter, *http.Request) {})
		}))
		defer silent.Close()
		resp := raw(t, silent.Listener.Addr(), "POST /"+announced+"x\r\n\r\n", "POST")
		is.Equal(resp.StatusCode, 200)
		is.True(resp.Close)
	})
	t.Run("too many in flight", func(t *testing.T) {
		is := is.New(t)
		slot := f.Enter()
		defer slot.Leave()
		resp := raw(t, server.Listener.Addr(), "POST /"+announced+"application/json\r\n\r\n{", "POST")
		is.Equal(resp.StatusCode, 503)
		is.Equal(resp.Header.Get("Retry-After"), "1")
	})
}

// TestSmallBodyCostsNoConnection: refused or not, the next request comes on the same.
func TestSmallBodyCostsNoConnection(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	server := httptest.NewUnstartedServer(newFunction(t))
	var connections atomic.Int64
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	client := server.Client()
	least := int64(100)
	for range 20 { // a machine that is busy with other tests sends a body later than is waited for, but not each time
		client.CloseIdleConnections()
		before := connections.Load()
		for _, path := range []string{"/", "/x", "/health/live"} {
			for _, body := range []string{"{}", strings.Repeat(" ", 60<<10)} {
				resp, err := client.Post(server.URL+path, "text/plain", strings.NewReader(body))
				is.NoErr(err)
				_, err = io.Copy(io.Discard, resp.Body)
				is.NoErr(err)
				resp.Body.Close()
				is.True(resp.StatusCode >= 400)
			}
		}
		if least = min(least, connections.Load()-before); least == 1 {
			return
		}
	}
	is.Equal(least, int64(1))
}

// TestSenderWhoIsStillSendingHasItsAnswer: a connection that is closed on it would
// be a reset, which a broker retries, and no 413.
func TestSenderWhoIsStillSendingHasItsAnswer(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newFunction(t))
	defer server.Close()
	for _, size := range []int{1<<20 + 1, 2 << 20, 10 << 20} {
		for range 10 {
			is := is.New(t)
			resp, err := http.Post(server.URL, "application/json", strings.NewReader(strings.Repeat(" ", size)))
			is.NoErr(err)
			resp.Body.Close()
			is.Equal(resp.StatusCode, 413)
		}
	}
}

// TestAnswerFreesItsPlace: one sender at a time needs one place.
func TestAnswerFreesItsPlace(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.EventsInFlight = 1 })
	for range 1000 {
		is.Equal(f.ask("POST", "/", "{}", "Content-Type", "application/json").Code, 200)
	}
}

// slowBodies sends the headers and the beginning of n bodies that do not come. It returns what
// resets their connections.
func slowBodies(t *testing.T, address string, n int, begin string) (reset func()) {
	t.Helper()
	is := is.New(t)
	var conns []net.Conn
	for range n {
		conn, err := net.Dial("tcp", address)
		is.NoErr(err)
		// An error is that the connection was closed, because the body was refused.
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n"+begin)
		conns = append(conns, conn)
	}
	return func() {
		for _, conn := range conns {
			is.NoErr(conn.(*net.TCPConn).SetLinger(0))
			conn.Close()
		}
	}
}

// TestSlowBodiesHoldNoSlot: 32 senders at a byte a second locked everybody out.
func TestSlowBodiesHoldNoSlot(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	server := httptest.NewServer(f)
	defer server.Close()
	reset := slowBodies(t, server.Listener.Addr().String(), 40, "{")
	eventually(t, func() bool { return f.series("coffeebuddy_http_requests_in_flight") == "41" }) // and the scrape
	is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
	is.Equal(f.ask("POST", "/", "{}", "Content-Type", "application/json").Code, 200)
	is.Equal(f.ask("POST", "/", "1", event1()...).Code, 200)
	is.Equal(f.ask("GET", "/health/ready", "").Code, 200)
	reset()
	eventually(t, func() bool { return f.series("coffeebuddy_http_requests_in_flight") == "1" })
}

// TestBodiesThatArriveAreBoundedInBytes: 32 MiB of them, by what is there of them.
func TestBodiesThatArriveAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	server := httptest.NewServer(f)
	defer server.Close()
	reset := slowBodies(t, server.Listener.Addr().String(), 32, `{"a":"`+strings.Repeat("x", 1<<20-100)) // which may take 15 s
	eventually(t, func() bool { return f.BytesArriving() == 32<<20 })
	refused := f.ask("POST", "/", `{"a":"`+strings.Repeat("x", 60<<10)+`"}`, "Content-Type", "application/json")
	is.Equal(refused.Code, 503)
	is.Equal(refused.Header().Get("Retry-After"), "1")
	is.Equal(refused.Body.String(), `{"error":"overloaded"}`+"\n")
	is.Equal(f.series("coffeebuddy_events_in_flight"), "0")
	is.Equal(f.ask("GET", "/health/ready", "").Code, 200)
	reset()
	eventually(t, func() bool {
		return f.ask("POST", "/", `{"a":"`+strings.Repeat("x", 60<<10)+`"}`, "Content-Type", "application/json").Code == 200
	})
}

// TestEventThatFindsNoSlotOnceItsBodyIsThere is told to come back, too.
func TestEventThatFindsNoSlotOnceItsBodyIsThere(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.EventsInFlight = 1 })
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("Content-Type", "application/json")
	r.ContentLength = 2
	var slot *events.Slot
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), readerFunc(func() { slot = f.Enter() }), strings.NewReader("}")))
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	is.Equal(w.Code, 503)
	is.Equal(w.Header().Get("Retry-After"), "1")
	is.Equal(f.series(`coffeebuddy_events_total{outcome="overloaded"}`), "1")
	slot.Leave()
	is.Equal(f.ask("POST", "/", "{}", "Content-Type", "application/json").Code, 200)
}

// A readerFunc is called when a body has come so far.
type readerFunc func()

func (f readerFunc) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestSlackTypesInDevelopment(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t, func(c *config) { c.Environment = "dev" })
	var received atomic.Int64
	is.NoErr(f.On("com.slack.command", func(context.Context, event.Event) (*event.Event, error) {
		received.Add(1)
		return nil, nil
	}))
	is.Equal(f.ask("POST", "/", "1", event1("Ce-Type", "com.slack.command")...).Code, 204)
	is.Equal(received.Load(), int64(1))
}

// eventually polls a condition.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("it never came true")
		}
		time.Sleep(time.Millisecond)
	}
}

// A pipe is a listener of one in-memory connection, for a clock of its own.
type pipe struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipe) Close() error {
	close(p.closed)
	return nil
}

// TestBodyThatIsSlow is answered by 408, which brokers retry: the event may be fine and the
// network slow.
func TestBodyThatIsSlow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sent  string
		size  int
		chunk int // every tenth of a second
		code  int
		after time.Duration
	}{
		{"nothing of it", 2, 0, 408, time.Second},
		{"its first byte", 0, 1, 408, 5 * time.Second},
		{"270 bytes a second", 1 << 20, 27, 408, 5 * time.Second},
		{"69 kB a second", 1 << 20, 6_900, 408, 15 * time.Second},
		{"80 kB a second", 1 << 20, 8_000, 204, 13100 * time.Millisecond},
		{"a small one within five seconds", 490, 10, 204, 4800 * time.Millisecond},
	} {
		t.Run(test.sent, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				f := newFunction(t)
				is.NoErr(f.On("coffee.ordered", answering(nil, nil)))
				client, conn := net.Pipe()
				listener := &pipe{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
				listener.conns <- conn
				server := &http.Server{Handler: f, ReadTimeout: 5 * time.Second}
				defer server.Close()
				go func() { _ = server.Serve(listener) }()
				body := strings.Repeat("x", max(test.size, 2))
				_, err := fmt.Fprintf(client, "POST / HTTP/1.1\r\nHost: x\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Source: /s\r\nCe-Type: coffee.ordered\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(body))
				is.NoErr(err)
				sent := time.Now()
				var sender sync.WaitGroup
				defer sender.Wait()
				defer client.Close()
				sender.Go(func() {
					for test.chunk > 0 && body != "" {
						n := min(test.chunk, len(body))
						if _, err := io.WriteString(client, body[:n]); err != nil {
							return
						}
						body = body[n:]
						if test.size == 0 {
							return
						}
						time.Sleep(100 * time.Millisecond)
					}
				})
				resp, err := http.ReadResponse(bufio.NewReader(client), nil)
				is.NoErr(err)
				is.Equal(resp.StatusCode, test.code)
				took := time.Since(sent)
				is.True(took >= test.after && took < test.after+200*time.Millisecond)
				if test.code == 408 {
					is.Equal(f.series(`coffeebuddy_events_total{outcome="timeout"}`), "1")
				}
			})
		})
	}
}

// TestRunbooksFindBodiesThatAreSlow: they count as timeout, and so in the alerts for it.
func TestRunbooksFindBodiesThatAreSlow(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	f := newFunction(t)
	r := httptest.NewRequest(http.MethodPost, "/", iotest.ErrReader(os.ErrDeadlineExceeded))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	is.Equal(w.Code, 408)
	for _, page := range []string{"error-budget.md", "events-failing.md"} {
		text, err := os.ReadFile("../docs/runbooks/" + page)
		is.NoErr(err)
		command := regexp.MustCompile(`grep -E '([^']+)'`).FindSubmatch(text)
		is.True(command != nil)
		is.True(regexp.MustCompile(string(command[1])).MatchString(f.logs.String())) // page
	}
}
