package handler

import (
	"math"
	"mime"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// An attributeError names the attribute at which an event is malformed.
type attributeError struct{ name string }

func (e *attributeError) Error() string { return "malformed attribute " + e.shown() }

// shown returns the attribute's name if it is one of the specification's own;
// any other was chosen by the sender.
func (e *attributeError) shown() string {
	switch e.name {
	case "specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject", "time", "data", "data_base64":
		return e.name
	}
	return "extension"
}

func malformedAt(name string) error { return &attributeError{name} }

// A builder collects an event's attributes and refuses what is not one.
type builder struct {
	context     event.EventContextV1
	contentType string // what context points to
	source      bool
	json        bool // the data is known to be JSON
}

// setJSON sets an attribute to a JSON value (JSON event format, section 2.2).
func (b *builder) setJSON(name string, value []byte) error {
	switch value[0] {
	case '"':
		text, ok := jsonString(value)
		if !ok {
			return malformedAt(name)
		}
		return b.set(name, text)
	case 't', 'f':
		return b.extend(name, value[0] == 't')
	case '{', '[':
		return malformedAt(name)
	}
	number, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || number < math.MinInt32 || number > math.MaxInt32 {
		return malformedAt(name)
	}
	return b.extend(name, int32(number))
}

// set sets an attribute to a text.
func (b *builder) set(name, value string) error {
	c, ok := &b.context, isText(value)
	if !ok {
		return malformedAt(name)
	}
	switch name {
	case "specversion": // which is the first that is looked at
	case "id":
		c.ID = value
	case "type":
		c.Type = value
	case "source":
		b.source = true
		c.Source.URL, ok = uriReference(value)
	case "subject":
		c.Subject, ok = new(value), value != ""
	case "time":
		c.Time = new(types.Timestamp)
		c.Time.Time, ok = timestamp(value)
	case "dataschema":
		c.DataSchema = new(types.URI)
		c.DataSchema.URL, ok = uriReference(value)
		ok = ok && c.DataSchema.IsAbs()
	case "datacontenttype":
		b.contentType, ok = value, isMediaType(value)
		c.DataContentType = &b.contentType
	default:
		return b.extend(name, value)
	}
	if !ok {
		return malformedAt(name)
	}
	return nil
}

// extend sets an extension attribute. One of the specification's own gets here
// only with a value of the wrong type.
func (b *builder) extend(name string, value any) error {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" ||
		(&attributeError{name}).shown() != "extension" {
		return malformedAt(name)
	}
	if b.context.Extensions == nil {
		b.context.Extensions = make(map[string]any)
	}
	b.context.Extensions[name] = value
	return nil
}

// complete reports the first required attribute that is missing or empty, and data
// that says it is JSON and is not.
func (b *builder) complete(e event.Event) error {
	switch {
	case strings.TrimSpace(b.context.ID) == "":
		return malformedAt("id")
	case !b.source:
		return malformedAt("source")
	case strings.TrimSpace(b.context.Type) == "":
		return malformedAt("type")
	case b.context.DataContentType != nil && isJSONType(*b.context.DataContentType) &&
		len(e.DataEncoded) > 0 && !b.json && !isJSON(e.DataEncoded):
		return malformedAt("data")
	}
	return nil
}

// isText reports whether s has only characters that an attribute may have: no
// control characters and no noncharacters (CloudEvents 1.0.2, Type System).
func isText(s string) bool {
	if isPrintableASCII(s) {
		return true
	}
	for _, r := range s {
		if r < 0x20 || 0x7f <= r && r <= 0x9f || 0xfdd0 <= r && r <= 0xfdef || r&0xfffe == 0xfffe {
			return false
		}
	}
	return utf8.ValidString(s)
}

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isMediaType reports whether s is a media type with its parameters (RFC 2046), and
// fit for a header.
func isMediaType(s string) bool {
	switch s {
	case event.ApplicationJSON, event.TextPlain: // which need no parsing
		return true
	}
	mediaType, _, err := mime.ParseMediaType(s)
	return err == nil && strings.Contains(mediaType, "/") && isPrintableASCII(s)
}

// timestamp parses a time of RFC 3339, section 5.6, and reports whether it is one.
// Package time takes both more and less: it allows an hour of one digit and a comma,
// and refuses small letters and leap seconds.
func timestamp(s string) (time.Time, bool) {
	s = strings.ToUpper(s)
	leap := time.Duration(0)
	if len(s) > len("2006-01-02T15:04:60") && s[16:19] == ":60" {
		s, leap = s[:16]+":59"+s[19:], time.Second
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || s[13] != ':' || strings.Contains(s, ",") || strings.HasSuffix(s, ":60") {
		return time.Time{}, false
	}
	_, offset := at.Zone()
	utc := at.UTC()
	if offset <= -24*3600 || offset >= 24*3600 || leap > 0 && (utc.Hour() != 23 || utc.Minute() != 59) {
		return time.Time{}, false
	}
	return at.Add(leap), true
}

// uriReference parses a non-empty URI-reference (RFC 3986, section 4.1), and reports
// whether it is one.
func uriReference(s string) (url.URL, bool) {
	fragments, brackets := 0, false
	for i := range len(s) {
		switch s[i] {
		case ' ', '<', '>', '"', '{', '}', '|', '\\', '^', '`':
			return url.URL{}, false
		case '#':
			fragments++
		case '[', ']':
			brackets = true
		}
	}
	u, err := url.Parse(s)
	if err != nil || *u == (url.URL{}) || fragments > 1 { // "", and "#" and "//", of which nothing is left
		return url.URL{}, false
	}
	if brackets && // which are for addresses in hosts only
		strings.ContainsAny(u.Opaque+u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "[]") {
		return url.URL{}, false
	}
	return *u, true
}
