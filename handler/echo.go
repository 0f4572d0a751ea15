package handler

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"coffeebuddy/events/attribute"

	"github.com/cloudevents/sdk-go/v2/event"
)

// echoType is the type of the events that `func invoke -f cloudevent` sends.
const echoType = "boson.fn"

// echoLimit is how much is echoed, in bytes. The echo is for trying the function out; one of a
// whole body would cost several times its size in memory, for anybody.
const echoLimit = 64 << 10

// echoed is the reply of the built-in receivers: the data they received, and the function's name.
type echoed struct {
	Message     json.RawMessage `json:"message"`
	App         string          `json:"app"`
	Environment string          `json:"environment"`
	Version     string          `json:"version"`
}

// echo answers an event with its data.
func (h *Handler) echo(_ context.Context, e event.Event) (*event.Event, error) {
	body, err := h.echoOf(message(e))
	if err == nil && !attribute.IsJSON(body) { // too deep by the one level that is added
		body, err = h.echoOf(quoted(e.Data()))
	}
	if err != nil {
		return nil, err
	}
	reply := event.New()
	reply.SetType("coffeebuddy.echo")
	if err := reply.SetData(event.ApplicationJSON, body); err != nil {
		return nil, fmt.Errorf("set the reply's data: %w", err)
	}
	return &reply, nil
}

func (h *Handler) echoOf(message json.RawMessage) ([]byte, error) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // what came goes back as it came
	if err := encoder.Encode(echoed{message, h.config.App, h.config.Environment, h.config.Version}); err != nil {
		return nil, fmt.Errorf("encode the echo: %w", err)
	}
	return line.Bytes(), nil
}

// message returns an event's data as JSON: as it is if it is JSON, text as a
// string, anything else in base64, and null for none.
func message(e event.Event) json.RawMessage {
	data := e.Data()
	switch {
	case len(data) == 0:
		return json.RawMessage("null")
	case attribute.IsJSONType(e.DataContentType()) && attribute.IsJSON(data):
		return data
	case !utf8.Valid(data):
		data = []byte(base64.StdEncoding.EncodeToString(data))
	}
	return quoted(data)
}

// quoted returns a text as a JSON string.
func quoted(text []byte) json.RawMessage {
	line, err := json.Marshal(string(text))
	if err != nil {
		panic("handler: marshal a string: " + err.Error()) // strings always marshal
	}
	return line
}
