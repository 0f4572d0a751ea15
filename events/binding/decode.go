// Package binding reads and writes events as requests carry them: the HTTP protocol binding
// and the JSON event format of CloudEvents 1.0.2. A header is a map whose names are in their
// canonical form, as net/http has them; the package serves and sends nothing, and needs no
// net/http.
//
// The CloudEvents SDK's own decoder is not used: one request can end its process, and it
// takes much that is malformed.
package binding

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"

	"coffeebuddy/events/attribute"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Mode is how a request carries what it brings.
type Mode int

// The modes.
const (
	Plain      Mode = iota // a JSON object and no event
	Binary                 // attributes in headers, data in the body
	Structured             // all of it in the body, as JSON
)

// ErrMediaType is a request that is neither an event nor plain JSON.
var ErrMediaType = errors.New("neither an event nor JSON")

// ModeOf returns the mode of a request, which its headers alone decide (HTTP binding,
// section 3).
func ModeOf(header map[string][]string) (Mode, error) {
	for _, coding := range header["Content-Encoding"] {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return 0, ErrMediaType // a receiver would be handed the compressed bytes
		}
	}
	mediaType := attribute.MediaType(first(header, "Content-Type"))
	switch {
	case len(header["Content-Type"]) > 1 && (mediaType == "application/cloudevents+json" || !hasEventHeader(header)):
		return 0, ErrMediaType // implementations disagree on which one wins
	case mediaType == "application/cloudevents+json":
		return Structured, nil
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return 0, ErrMediaType // a batch, or a format that is not supported
	case hasEventHeader(header):
		return Binary, nil
	case mediaType == event.ApplicationJSON:
		return Plain, nil
	}
	return 0, ErrMediaType
}

// first is header.Get of a name in its canonical form, for half of its cost.
func first(header map[string][]string, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func hasEventHeader(header map[string][]string) bool {
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

// Decode returns the event that a request in binary or structured mode carries, which is
// valid: data that claims to be JSON is JSON. The event keeps the body. An error that is
// about one attribute is an [attribute.Error].
func Decode(mode Mode, header map[string][]string, body []byte) (event.Event, error) {
	if mode == Structured {
		return decodeStructured(body)
	}
	return decodeBinary(header, body)
}

// decodeBinary decodes an event in binary mode (HTTP binding, section 3.1).
func decodeBinary(header map[string][]string, body []byte) (event.Event, error) {
	if headerValue(first(header, "Ce-Specversion")) != event.CloudEventsVersionV1 {
		return event.Event{}, attribute.Malformed("specversion") // whatever else is wrong with it
	}
	b := new(attribute.Builder)
	for field, values := range header {
		name, ok := attributeOf(field)
		if !ok {
			continue
		}
		if len(values) != 1 {
			return event.Event{}, attribute.Malformed(name)
		}
		if name == "datacontenttype" { // Content-Type carries that one
			return event.Event{}, attribute.Malformed(name)
		}
		if err := setHeader(b, name, values[0]); err != nil {
			return event.Event{}, err
		}
	}
	if values := header["Content-Type"]; len(values) > 0 {
		if len(values) > 1 {
			return event.Event{}, attribute.Malformed("datacontenttype")
		}
		if err := b.Set("datacontenttype", values[0]); err != nil {
			return event.Event{}, err
		}
	}
	return b.Event(body, false)
}

// setHeader sets an attribute to a header's value. A URI that is one only as it came is taken
// as it came: the common SDKs send URIs without escaping their percent signs.
func setHeader(b *attribute.Builder, name, value string) error {
	decoded := headerValue(value)
	if name != "source" && name != "dataschema" || decoded == value {
		return b.Set(name, decoded)
	}
	if isEscaped(decoded) || !isEscaped(value) {
		if b.Set(name, decoded) == nil {
			return nil
		}
	}
	return b.Set(name, value)
}

// isEscaped reports whether every percent sign is of an escape, as in a URI (RFC 3986, section
// 2.1). Package url does not look at those of a query.
func isEscaped(uri string) bool {
	for i := range len(uri) {
		if uri[i] == '%' && !isEscape(uri[i:]) {
			return false
		}
	}
	return true
}

// isEscape reports whether s starts with a percent sign and two hexadecimal digits.
func isEscape(s string) bool {
	return len(s) > 2 && s[0] == '%' && strings.Trim(s[1:3], "0123456789ABCDEFabcdef") == ""
}

// headerValue decodes a header's value (HTTP binding, section 3.1.3.2): a quoted string is
// unquoted, then one round of percent-decoding. Senders should encode whatever else would be
// decoded here; the common SDKs, and with them Knative, encode nothing. So all that cannot be an
// encoding is taken as it is: quotes that do not enclose the whole value, and a percent sign
// without two hexadecimal digits. What is not UTF-8 in the end is refused later.
func headerValue(value string) string {
	if content, ok := unquote(value); ok {
		value = content
	}
	if !strings.Contains(value, "%") {
		return value
	}
	text := make([]byte, 0, len(value))
	for i := 0; i < len(value); i++ {
		if !isEscape(value[i:]) {
			text = append(text, value[i])
			continue
		}
		c, _ := strconv.ParseUint(value[i+1:i+3], 16, 8)
		text = append(text, byte(c))
		i += 2
	}
	return string(text)
}

// unquote returns the content of a quoted string (RFC 9110, section 5.6.4), and false for a
// value that is not one as a whole.
func unquote(value string) (string, bool) {
	if !strings.HasPrefix(value, `"`) {
		return "", false
	}
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
	members, err := attribute.Members(body)
	if err != nil {
		return event.Event{}, err
	}
	if at := slices.IndexFunc(members, func(m attribute.Member) bool { return m.Name == "specversion" }); at < 0 || !isVersion1(members[at].Value) {
		return event.Event{}, attribute.Malformed("specversion") // whatever else is wrong with it
	}
	b := new(attribute.Builder)
	var data, base64Data []byte
	for _, m := range members {
		switch m.Name {
		case "data":
			data = m.Value
			continue
		case "data_base64":
			base64Data = m.Value
			continue
		}
		if err := b.SetJSON(m.Name, m.Value); err != nil {
			return event.Event{}, err
		}
	}
	switch {
	case data != nil && base64Data != nil:
		return event.Event{}, attribute.Malformed("data_base64")
	case base64Data != nil:
		text, ok := attribute.String(base64Data)
		if !ok || strings.ContainsAny(text, "\r\n") { // which encoding/base64 skips, and are not of the alphabet
			return event.Event{}, attribute.Malformed("data_base64")
		}
		if data, err = base64.StdEncoding.DecodeString(text); err != nil {
			return event.Event{}, attribute.Malformed("data_base64")
		}
		e, err := b.Event(data, false)
		e.DataBase64 = true
		return e, err
	case data != nil && !attribute.IsJSONType(b.DataContentType()):
		text, ok := attribute.String(data)
		if !ok {
			return event.Event{}, attribute.Malformed("data")
		}
		return b.Event([]byte(text), false)
	}
	return b.Event(data, true) // a part of the body, which is JSON
}

func isVersion1(value []byte) bool {
	if string(value) == `"`+event.CloudEventsVersionV1+`"` { // as nearly all write it
		return true
	}
	version, ok := attribute.String(value)
	return ok && version == event.CloudEventsVersionV1
}
