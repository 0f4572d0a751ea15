package handler

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// encode returns the headers of an event in binary mode (HTTP binding, section
// 3.1). An event without an id, a source or a time is given one. One that this
// package would not take itself is an error: half an event would be a malformed
// reply to a broker.
func (h *Handler) encode(e *event.Event, traceparent string) (http.Header, error) {
	if e.Context == nil || e.SpecVersion() != event.CloudEventsVersionV1 {
		return nil, errors.New("encode an event: it is not of version 1.0")
	}
	header := make(http.Header, 8)
	set := func(name, value string) { header[name] = []string{headerText(value)} }
	for name, value := range e.Extensions() {
		text, err := types.Format(value)
		if err != nil {
			return nil, fmt.Errorf("encode an event: an extension: %w", err)
		}
		set(textproto.CanonicalMIMEHeaderKey("ce-"+name), text)
	}
	if _, ok := header["Ce-Traceparent"]; !ok && traceparent != "" {
		set("Ce-Traceparent", traceparent)
	}
	set("Ce-Specversion", event.CloudEventsVersionV1)
	set("Ce-Type", e.Type())
	if id := e.ID(); id != "" {
		set("Ce-Id", id)
	} else {
		set("Ce-Id", rand.Text())
	}
	if source := e.Source(); source != "" {
		set("Ce-Source", source)
	} else {
		set("Ce-Source", h.source)
	}
	at := e.Time()
	if at.IsZero() {
		at = time.Now()
	}
	set("Ce-Time", types.FormatTime(at))
	if subject := e.Subject(); subject != "" {
		set("Ce-Subject", subject)
	}
	if schema := e.DataSchema(); schema != "" {
		set("Ce-Dataschema", schema)
	}
	if contentType := e.DataContentType(); contentType != "" {
		header["Content-Type"] = []string{contentType}
	}
	if _, err := decodeBinary(header, e.Data()); err != nil {
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	return header, nil
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
