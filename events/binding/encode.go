package binding

import (
	"net/textproto"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// Encode returns the headers of an event in binary mode (HTTP binding, section 3.1); its body
// is the event's data. Each header has one value. The event must be valid, as
// [coffeebuddy/events/attribute.Check] says.
func Encode(e event.Event) map[string][]string {
	const most = 9 // headers, besides those of extensions
	header := make(map[string][]string, most)
	values := make([]string, 0, most+len(e.Extensions()))
	set := func(name, value string) {
		values = append(values, headerText(value))
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	for name, value := range e.Extensions() {
		text, _ := types.Format(value) // which is valid
		set(textproto.CanonicalMIMEHeaderKey("ce-"+name), text)
	}
	set("Ce-Specversion", event.CloudEventsVersionV1)
	set("Ce-Id", e.ID())
	set("Ce-Source", e.Source())
	set("Ce-Type", e.Type())
	if at := e.Time(); !at.IsZero() {
		set("Ce-Time", types.FormatTime(at))
	}
	if subject := e.Subject(); subject != "" {
		set("Ce-Subject", subject)
	}
	if schema := e.DataSchema(); schema != "" {
		set("Ce-Dataschema", schema)
	}
	if contentType := e.DataContentType(); contentType != "" {
		header["Content-Type"] = []string{contentType}
	}
	return header
}

// headerText percent-encodes what a header must not hold: spaces, double quotes,
// percent signs, and all that is not printable ASCII (section 3.1.3.2).
func headerText(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			return percentEncoded(s)
		}
	}
	return s
}

func percentEncoded(s string) string {
	const hex = "0123456789ABCDEF"
	var text strings.Builder
	for i := range len(s) {
		c := s[i]
		if '!' <= c && c <= '~' && c != '"' && c != '%' {
			text.WriteByte(c)
			continue
		}
		text.WriteByte('%')
		text.WriteByte(hex[c>>4])
		text.WriteByte(hex[c&15])
	}
	return text.String()
}
