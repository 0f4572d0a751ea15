package handlertest

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// The wire format is written and read here by other code than the handler's, so that
// a test that uses both compares the two.

// request returns the request that brings an event: binary mode, as brokers send.
func request(e event.Event) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/", bytes.NewReader(e.Data()))
	r.Header.Set("Prefer", "reply")
	set := func(attribute, value string) {
		if value != "" {
			// PathEscape encodes all that must be, and more than that, which is allowed.
			r.Header.Set("Ce-"+attribute, url.PathEscape(value))
		}
	}
	set("Specversion", e.SpecVersion())
	set("Id", e.ID())
	set("Source", e.Source())
	set("Type", e.Type())
	set("Subject", e.Subject())
	set("Dataschema", e.DataSchema())
	if at := e.Time(); !at.IsZero() {
		set("Time", at.Format(time.RFC3339Nano))
	}
	for name, value := range e.Extensions() {
		if text, err := types.Format(value); err == nil {
			set(name, text)
		}
	}
	if contentType := e.DataContentType(); contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// looksLikeAnEvent reports whether a broker takes an answer for a reply.
func looksLikeAnEvent(header http.Header) bool {
	return header.Get("Ce-Specversion") != "" || strings.HasPrefix(header.Get("Content-Type"), "application/cloudevents")
}

// reply returns the event in a response, nil if it is malformed.
func reply(a Answer) *event.Event {
	e := event.New(a.Header.Get("Ce-Specversion"))
	for field, values := range a.Header {
		name, ok := strings.CutPrefix(field, "Ce-")
		if !ok || name == "Specversion" {
			continue
		}
		value, err := url.PathUnescape(values[0])
		if err != nil {
			return nil
		}
		switch name {
		case "Id":
			e.SetID(value)
		case "Source":
			e.SetSource(value)
		case "Type":
			e.SetType(value)
		case "Subject":
			e.SetSubject(value)
		case "Dataschema":
			e.SetDataSchema(value)
		case "Time":
			at, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				return nil
			}
			e.SetTime(at)
		default:
			e.SetExtension(strings.ToLower(name), value)
		}
	}
	if contentType := a.Header.Get("Content-Type"); contentType != "" {
		e.SetDataContentType(contentType)
	}
	e.DataEncoded = a.Body
	if e.Validate() != nil {
		return nil
	}
	return &e
}
