package attribute_test

import (
	"errors"
	"testing"
	"time"

	"coffeebuddy/events/attribute"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/matryer/is"
)

// TestCheck holds events of the function's own to the rules for those that come in.
func TestCheck(t *testing.T) {
	t.Parallel()
	for when, test := range map[string]struct {
		change func(*event.EventContextV1)
		at     string
	}{
		"valid":                      {func(*event.EventContextV1) {}, ""},
		"an empty subject":           {func(c *event.EventContextV1) { c.Subject = new("") }, ""},
		"an extension of an int":     {func(c *event.EventContextV1) { c.Extensions = map[string]any{"x": 1} }, ""},
		"no id":                      {func(c *event.EventContextV1) { c.ID = " " }, "id"},
		"an id with a control":       {func(c *event.EventContextV1) { c.ID = "\x00" }, "id"},
		"no source":                  {func(c *event.EventContextV1) { c.Source = types.URIRef{} }, "source"},
		"a source that is not UTF-8": {func(c *event.EventContextV1) { c.Source.Scheme, c.Source.Opaque = "a", "\xff" }, "source"},
		"no type":                    {func(c *event.EventContextV1) { c.Type = "" }, "type"},
		"a subject with a line feed": {func(c *event.EventContextV1) { c.Subject = new("a\nb") }, "subject"},
		"a relative schema":          {func(c *event.EventContextV1) { c.DataSchema = types.ParseURI("/s") }, "dataschema"},
		"a time of five digits": {func(c *event.EventContextV1) {
			c.Time = &types.Timestamp{Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}
		}, "time"},
		"a content type of one word":  {func(c *event.EventContextV1) { c.DataContentType = new("json") }, "datacontenttype"},
		"JSON that is none":           {func(c *event.EventContextV1) { c.DataContentType = new("application/json") }, "data"},
		"an extension with a dash":    {func(c *event.EventContextV1) { c.Extensions = map[string]any{"my-ext": "x"} }, "extension"},
		"an extension called data":    {func(c *event.EventContextV1) { c.Extensions = map[string]any{"data": "x"} }, "extension"},
		"an extension of no type":     {func(c *event.EventContextV1) { c.Extensions = map[string]any{"x": struct{}{}} }, "extension"},
		"an extension with a control": {func(c *event.EventContextV1) { c.Extensions = map[string]any{"x": "\x07"} }, "extension"},
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			c := &event.EventContextV1{ID: "1", Source: *types.ParseURIRef("/s"), Type: "t"}
			test.change(c)
			err := attribute.Check(event.Event{Context: c, DataEncoded: []byte("{")})
			if test.at == "" {
				is.NoErr(err)
				return
			}
			wrong, ok := errors.AsType[*attribute.Error](err)
			is.True(ok)
			is.Equal(wrong.Attribute(), test.at)
		})
	}
	old := event.New("0.3")
	is.New(t).True(attribute.Check(old) != nil)
	is.New(t).True(attribute.Check(event.Event{}) != nil)
}
