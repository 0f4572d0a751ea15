package handler

import (
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
	reply := event.New()
	reply.SetType("coffeebuddy.echo")
	if err := reply.SetData(event.ApplicationJSON, h.of(e)); err != nil {
		return nil, fmt.Errorf("set the reply's data: %w", err)
	}
	return &reply, nil
}

// of returns the echo of an event: its data as it is if that is JSON, text as a string, anything
// else in base64, and null for none.
func (h echo) of(e event.Event) []byte {
	data := e.Data()
	if len(data) == 0 {
		return append(h.line(len("null")), "null"+h.after...)
	}
	if attribute.IsJSONType(e.DataContentType()) {
		line, ok := attribute.AppendCompact(h.line(len(data)), data)
		line = append(line, h.after...)
		if ok && (len(line) <= attribute.MaxDepth || attribute.IsJSON(line)) { // else it is too deep by the level that is added
			return line
		}
	}
	if !utf8.Valid(data) {
		data = []byte(base64.StdEncoding.EncodeToString(data))
	}
	text := quoted(data)
	return append(append(h.line(len(text)), text...), h.after...)
}

// line returns the beginning of an echo, with room for the rest.
func (h echo) line(message int) []byte {
	const before = `{"message":`
	return append(make([]byte, 0, len(before)+message+len(h.after)), before...)
}

// quoted returns a text as a JSON string.
func quoted(text []byte) []byte {
	line, err := json.Marshal(string(text))
	if err != nil {
		panic("handler: marshal a string: " + err.Error()) // strings always marshal
	}
	return line
}
