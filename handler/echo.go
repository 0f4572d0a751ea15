package handler

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"coffeebuddy/events/attribute"

	"github.com/cloudevents/sdk-go/v2/event"
)

// echoType is the type of the events that `func invoke -f cloudevent` sends.
const echoType = "boson.fn"

// echoLimit is how much is echoed, in bytes. The echo is for trying the function out; one of a
// whole body would cost several times its size in memory, for anybody.
const echoLimit = 64 << 10

// An echo is the built-in receiver. Its replies have the data that it received, and the function's
// name.
type echo struct{ after string } // what follows the data

func newEcho(c Config) (echo, error) {
	var line strings.Builder
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		App         string `json:"app"`
		Environment string `json:"environment"`
		Version     string `json:"version"`
	}{c.App, c.Environment, c.Version})
	return echo{"," + strings.TrimPrefix(line.String(), "{")}, err
}

// receive answers an event with its data.
func (h echo) receive(_ context.Context, e event.Event) (*event.Event, error) {
	body, err := h.of(message(e))
	if err == nil && len(body) > attribute.MaxDepth && !attribute.IsJSON(body) { // too deep by the level that is added
		body, err = h.of(quoted(e.Data()))
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

func (h echo) of(message json.RawMessage) ([]byte, error) {
	const before = `{"message":`
	line := bytes.NewBuffer(make([]byte, 0, len(before)+len(message)+len(h.after)))
	line.WriteString(before)
	if err := json.Compact(line, message); err != nil {
		return nil, fmt.Errorf("encode the echo: %w", err)
	}
	line.WriteString(h.after)
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
