package handler

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
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
	mediaType := mediaTypeOf(first(header, "Content-Type"))
	switch {
	case len(header["Content-Type"]) > 1 && (mediaType == "application/cloudevents+json" || !hasEventHeader(header)):
		return 0, errMediaType // which of them counts differs from reader to reader
	case mediaType == "application/cloudevents+json":
		return structured, nil
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return 0, errMediaType // a batch, or a format that is not spoken here
	case hasEventHeader(header):
		return binary, nil
	case mediaType == event.ApplicationJSON:
		return plain, nil
	}
	return 0, errMediaType
}

// first is header.Get of a name in its canonical form, for half of its cost.
func first(header http.Header, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func hasEventHeader(header http.Header) bool {
	if _, ok := header["Ce-Specversion"]; ok {
		return true
	}
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
	switch header { // as net/http writes them; lower case would cost an allocation
	case "Ce-Specversion":
		return "specversion", true
	case "Ce-Id":
		return "id", true
	case "Ce-Source":
		return "source", true
	case "Ce-Type":
		return "type", true
	case "Ce-Subject":
		return "subject", true
	case "Ce-Time":
		return "time", true
	}
	const prefix = "ce-"
	if len(header) < len(prefix) || !strings.EqualFold(header[:len(prefix)], prefix) {
		return "", false
	}
	return strings.ToLower(header[len(prefix):]), true
}

// mediaTypeOf returns a content type's media type, without parameters, in lower case.
func mediaTypeOf(contentType string) string {
	if contentType == event.ApplicationJSON {
		return contentType
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(mediaType))
}

// isJSONType reports whether data of a content type is JSON; it is if there is none.
func isJSONType(contentType string) bool {
	mediaType := mediaTypeOf(contentType)
	return mediaType == "" || mediaType == event.ApplicationJSON || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json")
}

// decode returns the event that a request carries. Data that says it is JSON is.
func decode(mode mode, header http.Header, body []byte) (event.Event, error) {
	if mode == structured {
		return decodeStructured(body)
	}
	return decodeBinary(header, body)
}

// decodeBinary decodes an event in binary mode (HTTP binding, section 3.1).
func decodeBinary(header http.Header, body []byte) (event.Event, error) {
	if version, ok := headerValue(first(header, "Ce-Specversion")); !ok || version != event.CloudEventsVersionV1 {
		return event.Event{}, malformedAt("specversion") // whatever else is wrong with it
	}
	b := new(builder)
	for field, values := range header {
		name, ok := attributeOf(field)
		if !ok {
			continue
		}
		if len(values) != 1 {
			return event.Event{}, malformedAt(name)
		}
		value, ok := headerValue(values[0])
		if !ok || name == "datacontenttype" { // Content-Type carries that one
			return event.Event{}, malformedAt(name)
		}
		if err := b.set(name, value); err != nil {
			return event.Event{}, err
		}
	}
	if values := header["Content-Type"]; len(values) > 0 {
		if len(values) > 1 {
			return event.Event{}, malformedAt("datacontenttype")
		}
		if err := b.set("datacontenttype", values[0]); err != nil {
			return event.Event{}, err
		}
	}
	e := event.Event{Context: &b.context}
	if len(body) > 0 {
		e.DataEncoded = body
	}
	return e, b.complete(e)
}

// headerValue decodes a header's value (HTTP binding, section 3.1.3.2): a quoted
// string is unquoted, then one round of percent-decoding. Characters that a
// sender should have encoded are taken as they are, since the common SDKs encode
// none; what is not UTF-8 in the end is no text (see isText).
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
	return value, true
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
func decodeStructured(body []byte) (event.Event, error) {
	var few [16]member
	members, err := membersOf(body, few[:0])
	if err != nil {
		return event.Event{}, err
	}
	if at := slices.IndexFunc(members, func(m member) bool { return m.name == "specversion" }); at < 0 || !isVersion1(members[at].value) {
		return event.Event{}, malformedAt("specversion") // whatever else is wrong with it
	}
	b := new(builder)
	var data, base64Data []byte
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
			return event.Event{}, err
		}
	}
	if data != nil && base64Data != nil {
		return event.Event{}, malformedAt("data_base64")
	}
	e := event.Event{Context: &b.context}
	switch {
	case base64Data != nil:
		text, ok := jsonString(base64Data)
		if !ok || strings.ContainsAny(text, "\r\n") { // which encoding/base64 skips, and are not of the alphabet
			return event.Event{}, malformedAt("data_base64")
		}
		if e.DataEncoded, err = base64.StdEncoding.DecodeString(text); err != nil {
			return event.Event{}, malformedAt("data_base64")
		}
		e.DataBase64 = true
	case data != nil && isJSONType(e.DataContentType()):
		e.DataEncoded, b.json = data, true // as a part of JSON
	case data != nil:
		text, ok := jsonString(data)
		if !ok {
			return event.Event{}, malformedAt("data")
		}
		e.DataEncoded = []byte(text)
	}
	return e, b.complete(e)
}

func isVersion1(value []byte) bool {
	if string(value) == `"`+event.CloudEventsVersionV1+`"` { // as nearly all write it
		return true
	}
	version, ok := jsonString(value)
	return ok && version == event.CloudEventsVersionV1
}
