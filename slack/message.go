package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Ephemeral returns a reply that is visible only to the user who sent the command or the click.
func Ephemeral(text string) *event.Event { return reply("ephemeral", text) }

// InChannel returns a reply that is visible to everyone in the channel.
func InChannel(text string) *event.Event { return reply("in_channel", text) }

// reply returns a message as an event. A receiver can also reply with an event of its own, whose
// data is a message in JSON or plain text.
func reply(responseType, text string) *event.Event {
	e := event.New()
	e.SetType("coffeebuddy.slack.message")
	e.SetDataContentType(event.ApplicationJSON)
	e.DataEncoded = marshal(map[string]any{"response_type": responseType, "text": text})
	return &e
}

// marshal encodes texts, or valid JSON, as a JSON object. It leaves the angle brackets of Slack's
// mentions unescaped.
func marshal(v any) []byte {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("slack: marshal: " + err.Error())
	}
	return bytes.TrimSuffix(line.Bytes(), []byte("\n"))
}

// A message is the content of a response or a reply, in JSON or plain text. The zero message is
// empty.
type message struct {
	contentType string
	body        []byte
}

// words returns a text message that only the user sees. It does not replace the message that was
// clicked, which Slack would do by default.
func words(text string) message {
	return message{event.ApplicationJSON, marshal(map[string]any{
		"response_type": "ephemeral", "replace_original": false, "text": text,
	})}
}

// messageOf returns the message in a receiver's reply.
func messageOf(reply *event.Event) (message, error) {
	if reply == nil || len(reply.Data()) == 0 {
		return message{}, nil
	}
	data := reply.Data()
	mediaType, _, err := mime.ParseMediaType(reply.DataContentType())
	switch {
	case err != nil:
	case mediaType == event.TextPlain:
		return message{"text/plain; charset=utf-8", data}, nil
	case mediaType == event.ApplicationJSON && isObject(data):
		return message{event.ApplicationJSON, data}, nil
	}
	return message{}, errors.New("the reply is neither a JSON object nor plain text")
}

func isObject(text []byte) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal(text, &object) == nil && object != nil
}

// post returns the message as JSON, the only format that a response_url takes.
func (m message) post() []byte {
	if m.contentType == event.ApplicationJSON {
		return m.body
	}
	return words(string(m.body)).body
}

// isPosted reports whether a response_url takes the message. It does not take a response to a
// modal, a dialog or a menu, such as errors.
func (m message) isPosted() bool {
	if m.contentType != event.ApplicationJSON {
		return true
	}
	fields, err := objectOf(m.body)
	return err == nil && (fields["text"] != nil || fields["blocks"] != nil || fields["attachments"] != nil) && fields["response_action"] == nil
}
