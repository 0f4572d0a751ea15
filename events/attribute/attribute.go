// Package attribute says what the attributes and the data of an event may be, for events
// that are received, replied and sent alike: CloudEvents 1.0.2 and its JSON event format,
// within the bounds of this function. How an event looks on the wire does not belong here.
package attribute

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

// An Error names the attribute at which an event is malformed.
type Error struct{ name string }

// Malformed returns an [Error] about an attribute; the name may be one that a sender chose.
func Malformed(name string) error { return &Error{name} }

func (e *Error) Error() string { return "malformed attribute " + e.Attribute() }

// Attribute returns the attribute's name if it is one of the specification's own, else
// "extension": any other name was chosen by the sender.
func (e *Error) Attribute() string {
	if reserved(e.name) {
		return e.name
	}
	return "extension"
}

// reserved reports whether a name is one of the specification's own.
func reserved(name string) bool {
	switch name {
	case "specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject", "time", "data", "data_base64":
		return true
	}
	return false
}

// A Builder collects the attributes of an event of version 1.0 and refuses what none may be.
// The zero Builder is ready to use.
type Builder struct {
	context     event.EventContextV1
	contentType string // what context points to
	source      bool
	texts       strings.Builder // of JSON strings, which share its memory
}

// SetJSON sets an attribute to a JSON value (JSON event format, section 2.2).
func (b *Builder) SetJSON(name string, value []byte) error {
	switch value[0] {
	case '"':
		text, ok := b.text(value)
		if !ok {
			return Malformed(name)
		}
		return b.Set(name, text)
	case 't', 'f':
		return b.extend(name, value[0] == 't')
	case '{', '[':
		return Malformed(name)
	}
	number, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || number < math.MinInt32 || number > math.MaxInt32 {
		return Malformed(name)
	}
	return b.extend(name, int32(number))
}

// text is String, for one allocation instead of one for each attribute.
func (b *Builder) text(value []byte) (string, bool) {
	if !isPlainString(value) {
		return String(value)
	}
	if b.texts.Cap() == 0 {
		b.texts.Grow(128) // nearly always enough; where it grows, texts stay where they are
	}
	at := b.texts.Len()
	b.texts.Write(value[1 : len(value)-1])
	return b.texts.String()[at:], true
}

// Set sets an attribute to a text.
func (b *Builder) Set(name, value string) error {
	c, ok := &b.context, isText(value)
	if !ok {
		return Malformed(name)
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
		return Malformed(name)
	}
	return nil
}

// extend sets an extension attribute. One of the specification's own gets here
// only with a value of the wrong type.
func (b *Builder) extend(name string, value any) error {
	if !isExtensionName(name) {
		return Malformed(name)
	}
	if b.context.Extensions == nil {
		b.context.Extensions = make(map[string]any)
	}
	b.context.Extensions[name] = value
	return nil
}

// DataContentType returns what was set, "" for nothing.
func (b *Builder) DataContentType() string { return b.contentType }

// Event returns the event with its data, or an [Error] at the first required attribute that
// is missing or empty, or at data that claims to be JSON and is not. Data that was cut out
// of valid JSON is not read again.
func (b *Builder) Event(data []byte, fromJSON bool) (event.Event, error) {
	e := event.Event{Context: &b.context}
	if len(data) > 0 {
		e.DataEncoded = data
	}
	switch {
	case strings.TrimSpace(b.context.ID) == "":
		return e, Malformed("id")
	case !b.source:
		return e, Malformed("source")
	case strings.TrimSpace(b.context.Type) == "":
		return e, Malformed("type")
	case b.context.DataContentType != nil && !fromJSON:
		return e, checkData(b.contentType, data)
	}
	return e, nil
}

// Check returns an [Error] at the first attribute of an event that no event may have, or
// that a required one is missing or empty. It is for events that did not come from outside.
func Check(e event.Event) error {
	c, ok := e.Context.(*event.EventContextV1)
	if !ok {
		return Malformed("specversion")
	}
	for name, value := range c.Extensions {
		text, err := types.Format(value)
		if err != nil || !isExtensionName(strings.ToLower(name)) || !isText(text) {
			return Malformed("extension")
		}
	}
	switch {
	case strings.TrimSpace(c.ID) == "" || !isText(c.ID):
		return Malformed("id")
	case !isURIReference(c.Source.String()):
		return Malformed("source")
	case strings.TrimSpace(c.Type) == "" || !isText(c.Type):
		return Malformed("type")
	case c.Subject != nil && !isText(*c.Subject):
		return Malformed("subject")
	case c.DataSchema != nil && !isSchema(c.DataSchema.String()):
		return Malformed("dataschema")
	case c.Time != nil && !isTime(c.Time.Time):
		return Malformed("time")
	}
	if c.DataContentType == nil || *c.DataContentType == "" {
		return nil
	}
	if !isMediaType(*c.DataContentType) {
		return Malformed("datacontenttype")
	}
	return checkData(*c.DataContentType, e.DataEncoded)
}

// checkData returns an error for data that claims to be JSON and is not.
func checkData(contentType string, data []byte) error {
	if len(data) > 0 && IsJSONType(contentType) && !IsJSON(data) {
		return Malformed("data")
	}
	return nil
}

// IsType reports whether an event may have a type.
func IsType(eventType string) bool { return strings.TrimSpace(eventType) != "" && isText(eventType) }

// isExtensionName reports whether an extension may have a name.
func isExtensionName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == "" && !reserved(name)
}

func isURIReference(text string) bool {
	_, ok := uriReference(text)
	return ok && isText(text)
}

// isSchema reports whether a text is empty or an absolute URI.
func isSchema(text string) bool {
	u, ok := uriReference(text)
	return text == "" || ok && isText(text) && u.IsAbs()
}

// isTime reports whether a time can be written as a timestamp: its year has four digits.
func isTime(at time.Time) bool {
	year := at.UTC().Year()
	return 0 <= year && year <= 9999
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
// and refuses lower case and leap seconds.
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

// MediaType returns a content type's media type, without parameters, in lower case.
func MediaType(contentType string) string {
	if contentType == event.ApplicationJSON {
		return contentType
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(mediaType))
}

// IsJSONType reports whether data of a content type is JSON; it is if there is none.
func IsJSONType(contentType string) bool {
	mediaType := MediaType(contentType)
	return mediaType == "" || mediaType == event.ApplicationJSON || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json")
}
