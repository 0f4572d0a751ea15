package handler

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// The decoder follows the HTTP protocol binding and the JSON event format of
// CloudEvents 1.0.2. The SDK's own is not used: one request can end its process,
// and it takes much that is malformed.

// A mode is how a request carries what it brings.
type mode int

const (
	plain      mode = iota // a JSON object and no event
	binary                 // attributes in headers, data in the body
	structured             // all of it in the body, as JSON
)

// errMediaType is a request that is neither an event nor plain JSON.
var errMediaType = errors.New("neither an event nor JSON")

// modeOf judges a request by its headers alone (HTTP binding, section 3).
func modeOf(header http.Header) (mode, error) {
	for _, coding := range header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return 0, errMediaType // a receiver would be handed the compressed bytes
		}
	}
	mediaType := mediaTypeOf(header.Get("Content-Type"))
	switch {
	case len(header["Content-Type"]) > 1 && (mediaType == "application/cloudevents+json" || !hasEventHeader(header)):
		return 0, errMediaType // which of them counts differs from reader to reader
	case mediaType == "application/cloudevents+json":
		return structured, nil
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return 0, errMediaType // a batch, or a format that is not spoken here
	case hasEventHeader(header):
		return binary, nil
	case mediaType == "application/json":
		return plain, nil
	}
	return 0, errMediaType
}

func hasEventHeader(header http.Header) bool {
	for name := range header {
		if _, ok := attributeOf(name); ok {
			return true
		}
	}
	return false
}

// attributeOf returns the attribute that a header carries, and whether it is an
// event's header at all (HTTP binding, section 3.1.3.1).
func attributeOf(header string) (string, bool) {
	const prefix = "ce-"
	if len(header) < len(prefix) || !strings.EqualFold(header[:len(prefix)], prefix) {
		return "", false
	}
	return strings.ToLower(header[len(prefix):]), true
}

// mediaTypeOf returns a content type's media type, without parameters, in lower case.
func mediaTypeOf(contentType string) string {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(mediaType))
}

// isJSONType reports whether data of a content type is JSON; it is if there is none.
func isJSONType(contentType string) bool {
	mediaType := mediaTypeOf(contentType)
	return mediaType == "" || mediaType == "application/json" || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json")
}

// isJSON reports whether data is one JSON text, in UTF-8.
func isJSON(data []byte) bool { return utf8.Valid(data) && json.Valid(data) }

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

// decode returns the event that a request carries. Data that says it is JSON is.
func decode(mode mode, header http.Header, body []byte) (e *event.Event, err error) {
	if mode == structured {
		e, err = decodeStructured(body)
	} else {
		e, err = decodeBinary(header, body)
	}
	if err != nil {
		return nil, err
	}
	if contentType := e.DataContentType(); contentType != "" && isJSONType(contentType) && len(e.Data()) > 0 && !isJSON(e.Data()) {
		return nil, malformedAt("data")
	}
	return e, nil
}

// decodeBinary decodes an event in binary mode (HTTP binding, section 3.1).
func decodeBinary(header http.Header, body []byte) (*event.Event, error) {
	b := builder{context: new(event.EventContextV1)}
	for field, values := range header {
		name, ok := attributeOf(field)
		if !ok {
			continue
		}
		if len(values) != 1 {
			return nil, malformedAt(name)
		}
		value, ok := headerValue(values[0])
		if !ok || name == "datacontenttype" { // Content-Type carries that one
			return nil, malformedAt(name)
		}
		if err := b.set(name, value); err != nil {
			return nil, err
		}
	}
	if values := header["Content-Type"]; len(values) > 0 {
		if len(values) > 1 {
			return nil, malformedAt("datacontenttype")
		}
		if err := b.set("datacontenttype", values[0]); err != nil {
			return nil, err
		}
	}
	if err := b.complete(); err != nil {
		return nil, err
	}
	e := &event.Event{Context: b.context}
	if len(body) > 0 {
		e.DataEncoded = body
	}
	return e, nil
}

// headerValue decodes a header's value (HTTP binding, section 3.1.3.2): a quoted
// string is unquoted, then one round of percent-decoding. Characters that a
// sender should have encoded are taken as they are, since the common SDKs encode
// none; what is not UTF-8 in the end is refused.
func headerValue(value string) (string, bool) {
	if strings.HasPrefix(value, `"`) {
		var ok bool
		if value, ok = unquote(value); !ok {
			return "", false
		}
	}
	if strings.Contains(value, "%") {
		var err error
		if value, err = url.PathUnescape(value); err != nil {
			return "", false
		}
	}
	return value, utf8.ValidString(value)
}

// unquote returns the content of a quoted string (RFC 9110, section 5.6.4).
func unquote(value string) (string, bool) {
	var content strings.Builder
	for i := 1; i < len(value); i++ {
		switch value[i] {
		case '"':
			return content.String(), i == len(value)-1
		case '\\':
			i++
			if i == len(value) {
				return "", false
			}
		}
		content.WriteByte(value[i])
	}
	return "", false
}

// decodeStructured decodes an event in the JSON event format (section 3).
func decodeStructured(body []byte) (*event.Event, error) {
	members, err := membersOf(body)
	if err != nil {
		return nil, err
	}
	b := builder{context: new(event.EventContextV1)}
	var data, base64Data json.RawMessage
	for _, m := range members {
		switch m.name {
		case "data":
			data = m.value
			continue
		case "data_base64":
			base64Data = m.value
			continue
		}
		if err := b.setJSON(m.name, m.value); err != nil {
			return nil, err
		}
	}
	if err := b.complete(); err != nil {
		return nil, err
	}
	e := &event.Event{Context: b.context}
	switch {
	case base64Data != nil && data != nil:
		return nil, malformedAt("data_base64")
	case base64Data != nil:
		text, ok := jsonString(base64Data)
		if !ok {
			return nil, malformedAt("data_base64")
		}
		if e.DataEncoded, err = base64.StdEncoding.DecodeString(text); err != nil || strings.ContainsAny(text, "\r\n") {
			return nil, malformedAt("data_base64") // line feeds, which encoding/base64 skips, are not of the alphabet
		}
		e.DataBase64 = true
	case data != nil && isJSONType(e.DataContentType()):
		e.DataEncoded = data
	case data != nil:
		text, ok := jsonString(data)
		if !ok {
			return nil, malformedAt("data")
		}
		e.DataEncoded = []byte(text)
	}
	return e, nil
}

// A member is one of a JSON object's.
type member struct {
	name  string
	value json.RawMessage
}

// membersOf returns the members of a JSON object, without those that are null,
// which is how the format writes an absent one. A name that stands twice is
// refused: which of the two counts differs from reader to reader.
func membersOf(body []byte) ([]member, error) {
	notAnObject := errors.New("not a JSON object")
	if !isJSON(body) {
		return nil, notAnObject
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, notAnObject
	}
	var members []member
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, notAnObject
		}
		m := member{name: name.(string)} // a member's name is always one
		if err := decoder.Decode(&m.value); err != nil {
			return nil, notAnObject
		}
		if slices.ContainsFunc(members, func(other member) bool { return other.name == m.name }) {
			return nil, malformedAt(m.name)
		}
		if len(members) == maxMembers {
			return nil, errors.New("too many members")
		}
		members = append(members, m)
	}
	return slices.DeleteFunc(members, func(m member) bool { return string(m.value) == "null" }), nil
}

// maxMembers bounds an event's members. Headers are bounded by the server.
const maxMembers = 256

// jsonString returns the text of a JSON string, and false for any other value and
// for half a surrogate pair, which is no text.
func jsonString(value json.RawMessage) (string, bool) {
	var text string
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return "", false
	}
	return text, !halfPair(value)
}

// halfPair reports whether a JSON string has an escaped surrogate without its other
// half, for which encoding/json puts U+FFFD.
func halfPair(value []byte) bool {
	for i := 0; i+1 < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		unit := escapedUnit(value[i:])
		switch {
		case utf16.IsSurrogate(unit) && utf16.DecodeRune(unit, escapedUnit(value[i+6:])) == utf8.RuneError:
			return true
		case utf16.IsSurrogate(unit):
			i += 11
		case unit >= 0:
			i += 5
		default:
			i++ // a backslash and the character it escapes
		}
	}
	return false
}

// escapedUnit returns the code unit of the \uXXXX that s starts with, -1 if it does not.
func escapedUnit(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}

// A builder collects an event's attributes and refuses what is not one.
type builder struct {
	context     *event.EventContextV1
	specversion string
	source      bool
}

// setJSON sets an attribute to a JSON value (JSON event format, section 2.2).
func (b *builder) setJSON(name string, value json.RawMessage) error {
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
	var number int64
	if json.Unmarshal(value, &number) != nil || number < math.MinInt32 || number > math.MaxInt32 {
		return malformedAt(name)
	}
	return b.extend(name, int32(number))
}

// set sets an attribute to a text.
func (b *builder) set(name, value string) (err error) {
	if !isText(value) {
		return malformedAt(name)
	}
	c := b.context
	switch name {
	case "specversion":
		b.specversion = value
	case "id":
		c.ID = value
	case "type":
		c.Type = value
	case "source":
		b.source = true
		c.Source, err = uriReference(value)
	case "subject":
		if value == "" {
			return malformedAt(name)
		}
		c.Subject = &value
	case "time":
		var at time.Time
		at, err = timestamp(value)
		c.Time = &types.Timestamp{Time: at}
	case "dataschema":
		var ref types.URIRef
		ref, err = uriReference(value)
		if err == nil && !ref.IsAbs() {
			return malformedAt(name)
		}
		c.DataSchema = &types.URI{URL: ref.URL}
	case "datacontenttype":
		var mediaType string
		mediaType, _, err = mime.ParseMediaType(value)
		if err == nil && !strings.Contains(mediaType, "/") {
			return malformedAt(name)
		}
		c.DataContentType = &value
	default:
		return b.extend(name, value)
	}
	if err != nil {
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

// complete reports the first required attribute that is missing or empty.
func (b *builder) complete() error {
	switch {
	case b.specversion != event.CloudEventsVersionV1:
		return malformedAt("specversion")
	case strings.TrimSpace(b.context.ID) == "":
		return malformedAt("id")
	case !b.source:
		return malformedAt("source")
	case strings.TrimSpace(b.context.Type) == "":
		return malformedAt("type")
	}
	return nil
}

// isText reports whether s has only characters that an attribute may have: no
// control characters and no noncharacters (CloudEvents 1.0.2, section 2.2).
func isText(s string) bool {
	for _, r := range s {
		if r < 0x20 || 0x7f <= r && r <= 0x9f || 0xfdd0 <= r && r <= 0xfdef || r&0xfffe == 0xfffe {
			return false
		}
	}
	return utf8.ValidString(s)
}

// timestamp parses a time of RFC 3339, section 5.6, which package time takes both
// more and less of: it allows an hour of one digit and a comma, and refuses small
// letters and leap seconds.
func timestamp(s string) (time.Time, error) {
	s = strings.ToUpper(s)
	leap := time.Duration(0)
	if len(s) > len("2006-01-02T15:04:60") && s[16:19] == ":60" {
		s, leap = s[:16]+":59"+s[19:], time.Second
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	_, offset := at.Zone()
	switch utc := at.UTC(); {
	case err != nil:
	case s[13] != ':', strings.Contains(s, ","), offset <= -24*3600, offset >= 24*3600, strings.HasSuffix(s, ":60"),
		leap > 0 && (utc.Hour() != 23 || utc.Minute() != 59):
		err = errors.New("not a time of RFC 3339")
	}
	return at.Add(leap), err
}

// uriReference parses a non-empty URI-reference (RFC 3986, section 4.1).
func uriReference(s string) (types.URIRef, error) {
	wrong := errors.New("not a URI-reference")
	if s == "" || strings.ContainsAny(s, " <>\"{}|\\^`") || strings.Count(s, "#") > 1 {
		return types.URIRef{}, wrong
	}
	u, err := url.Parse(s)
	if err != nil { // its text quotes the value
		return types.URIRef{}, wrong
	}
	if strings.ContainsAny(u.Opaque+u.EscapedPath()+u.RawQuery+u.EscapedFragment(), "[]") { // for addresses in hosts only
		return types.URIRef{}, wrong
	}
	return types.URIRef{URL: *u}, nil
}
