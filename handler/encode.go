package handler

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// encode returns the headers of an event in binary mode (HTTP binding, section
// 3.1). A reply that lacks an id or a time is given one; any other fault is an
// error: half an event would be a malformed reply to a broker.
func encode(reply *event.Event) (map[string][]string, error) {
	if reply.Context == nil {
		return nil, errors.New("encode an event: it is empty")
	}
	e := *reply
	e.Context = reply.Context.Clone() // a receiver may reply with the same event each time
	if e.ID() == "" {
		_ = e.Context.SetID(rand.Text()) // were it not set, Validate would say so
	}
	if e.Time().IsZero() {
		_ = e.Context.SetTime(time.Now())
	}
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	if e.SpecVersion() != event.CloudEventsVersionV1 {
		return nil, errors.New("encode an event: it is not of version 1.0")
	}
	header := map[string][]string{
		"Ce-Specversion": {e.SpecVersion()},
		"Ce-Id":          {headerText(e.ID())},
		"Ce-Source":      {headerText(e.Source())},
		"Ce-Type":        {headerText(e.Type())},
		"Ce-Time":        {types.FormatTime(e.Time())},
	}
	if subject := e.Subject(); subject != "" {
		header["Ce-Subject"] = []string{headerText(subject)}
	}
	if schema := e.DataSchema(); schema != "" {
		header["Ce-Dataschema"] = []string{headerText(schema)}
	}
	if contentType := e.DataContentType(); contentType != "" {
		header["Content-Type"] = []string{contentType}
	}
	for name, value := range e.Extensions() {
		text, err := types.Format(value)
		if err != nil {
			return nil, fmt.Errorf("encode an event: an extension: %w", err)
		}
		header["Ce-"+strings.ToUpper(name[:1])+name[1:]] = []string{headerText(text)}
	}
	return header, nil
}

// headerText percent-encodes what a header must not hold: spaces, double quotes,
// percent signs, and all that is not printable ASCII (section 3.1.3.2).
func headerText(s string) string {
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
