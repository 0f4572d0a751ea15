package events

import (
	"crypto/rand"
	"maps"
	"net/url"
	"time"

	"coffeebuddy/events/attribute"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// complete returns an event of the function's own that is valid, or an [attribute.Error].
// An event without an id, a source or a time is given one, and one without a traceparent
// that of its trace, if there is one. The event that came in is left alone: whoever made it
// may use it again, at the same time.
func (e *Events) complete(in event.Event, traceparent string) (event.Event, error) {
	given, ok := in.Context.(*event.EventContextV1)
	if !ok {
		return event.Event{}, attribute.Malformed("specversion")
	}
	c := *given
	if c.ID == "" {
		c.ID = rand.Text()
	}
	if c.Source.URL == (url.URL{}) {
		c.Source = e.source
	}
	if c.Time == nil || c.Time.IsZero() {
		c.Time = &types.Timestamp{Time: time.Now()}
	}
	if _, ok := c.Extensions["traceparent"]; !ok && traceparent != "" {
		extensions := make(map[string]any, len(c.Extensions)+1)
		maps.Copy(extensions, c.Extensions)
		extensions["traceparent"] = traceparent
		c.Extensions = extensions
	}
	out := event.Event{Context: &c, DataEncoded: in.DataEncoded, DataBase64: in.DataBase64}
	return out, attribute.Check(out)
}
