package slack

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"coffeebuddy/events"

	"github.com/cloudevents/sdk-go/v2/event"
)

// The event types.
const (
	commandType       = "com.slack.command"
	interactionPrefix = "com.slack.interaction."
	eventPrefix       = "com.slack.event."
)

const (
	// onceAge is how long a command or a click is remembered: longer than its signature is valid.
	onceAge = 3 * maxSkew

	// retryAge is how long an accepted event is remembered. Slack's last retry comes six minutes
	// after the first attempt.
	retryAge = time.Hour
)

var errMalformed = errors.New("malformed")

// A delivery is an event and what Slack expects in response to it.
type delivery struct {
	kind        kind
	event       event.Event
	options     []events.Option
	responseURL string // "" for none
	expectations
	durable      bool   // it reaches its receiver through the sink
	unregistered bool   // a command without a registered receiver
	challenge    string // of the test of a route; then there is no event
	done         func() // releases the memory that the request holds
}

// expectations are what Slack expects of the response to a request.
type expectations struct {
	inResponse bool // Slack reads a reply from the response
	waits      bool // the response is the reply, so an empty 200 would be wrong
	reads      bool // the receiver changes nothing and may run again
}

// expectationsOf returns what Slack expects of the response to one type of interaction.
func expectationsOf(interactionType string) expectations {
	switch interactionType {
	case "view_submission", "dialog_submission":
		return expectations{inResponse: true, waits: true}
	case "block_suggestion", "dialog_suggestion":
		return expectations{inResponse: true, waits: true, reads: true}
	case "interactive_message":
		return expectations{inResponse: true}
	}
	return expectations{}
}

// commandOf turns a slash command into a delivery; the event's data is the form as a JSON object.
func (a *App) commandOf(r request) (*delivery, error) {
	fields, err := formOf(r.body)
	if err != nil {
		return nil, err
	}
	name := fields["command"]
	if !isCommandForm(fields) {
		return nil, errMalformed
	}
	s := sender{
		enterprise: fields["enterprise_id"], team: fields["team_id"], app: fields["api_app_id"],
		org: fields["is_enterprise_install"] == "true",
	}
	delete(fields, "token")
	found := a.find(name, fields["text"])
	d := &delivery{
		kind: command, options: []events.Option{events.Once(onceAge)}, responseURL: fields["response_url"],
		expectations: expectations{inResponse: true}, durable: found.durable, unregistered: found.receive == nil,
	}
	d.event, err = r.event(commandType, s, name, marshal(fields))
	return d, err
}

// formOf returns the fields of a form. Each must occur once, be UTF-8, and have a name like Slack's
// own. The check of the names rejects a body that was signed for another route: parsed as a form,
// an event's JSON begins with a name that contains a brace, and a URL in it may contain fields.
func formOf(body []byte) (map[string]string, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errMalformed
	}
	fields := make(map[string]string, len(values))
	for name, value := range values {
		if len(value) != 1 || !isWord(name) || !utf8.ValidString(value[0]) {
			return nil, errMalformed
		}
		fields[name] = value[0]
	}
	return fields, nil
}

// isCommandForm reports whether a form has the fields of every slash command. The signature covers
// neither the route nor the media type, so the shape of the body has to decide.
func isCommandForm(fields map[string]string) bool {
	return isCommand(fields["command"]) && isWord(fields["team_id"]) && isWord(fields["user_id"]) && fields["trigger_id"] != ""
}

// interactionOf turns an interaction into a delivery; the event's data is its payload.
func (a *App) interactionOf(r request) (*delivery, error) {
	form, err := formOf(r.body)
	if err != nil || len(form) != 1 { // Slack sends only the payload
		return nil, errMalformed
	}
	payload, err := objectOf([]byte(form["payload"]))
	if err != nil {
		return nil, err
	}
	interactionType := payload.text("type")
	if !isWord(interactionType) {
		return nil, errMalformed
	}
	d := &delivery{
		kind: interaction, options: []events.Option{events.Once(onceAge)}, responseURL: responseURLOf(payload),
		expectations: expectationsOf(interactionType), durable: a.durable[interactionPrefix+interactionType],
	}
	if d.reads {
		d.options = nil
	}
	view := payload.object("view")
	subject := first(payload.head("actions").text("action_id"), payload.text("action_id"), payload.text("callback_id"), view.text("callback_id"))
	delete(payload, "token")
	d.event, err = r.event(interactionPrefix+interactionType, interactionSender(payload), subject, marshal(payload))
	return d, err
}

// responseURLOf returns where a reply to an interaction can be posted, or "" for nowhere. A view
// has several URLs if several of its inputs ask for one.
func responseURLOf(payload object) string {
	return first(payload.text("response_url"), payload.head("response_urls").text("response_url"))
}

// eventOf turns an Events API request into a delivery; the event's data is its envelope.
func (a *App) eventOf(r request) (*delivery, error) {
	envelope, err := objectOf(r.body)
	if err != nil {
		return nil, err
	}
	eventType, id := envelope.text("type"), envelope.text("event_id")
	inner := envelope.object("event")
	switch eventType {
	case "url_verification":
		challenge := envelope.text("challenge")
		if !isPrintable(challenge) {
			return nil, errMalformed
		}
		return &delivery{challenge: challenge}, nil
	case "event_callback":
		eventType = inner.text("type")
	}
	if !isWord(eventType) || id != "" && !isWord(id) {
		return nil, errMalformed
	}
	delete(envelope, "token")
	d := &delivery{
		kind: deliveredEvent, options: []events.Option{events.Deduplicate(retryAge)},
		durable: a.durable[eventPrefix+eventType],
	}
	d.event, err = r.event(eventPrefix+eventType, eventSender(envelope), channelOf(inner), marshal(envelope))
	if err != nil {
		return nil, err
	}
	if id != "" {
		d.event.SetID(id)
	}
	const lastYear = 253402300799 // the last second of the year 9999
	if at, err := strconv.ParseInt(string(envelope["event_time"]), 10, 64); err == nil && at > 0 && at <= lastYear {
		d.event.SetTime(time.Unix(at, 0).UTC())
	}
	return d, nil
}

// channelOf returns the channel in which an event happened, or "". Slack names it in several ways.
func channelOf(inner object) string {
	return first(
		inner.text("channel"), inner.object("channel").text("id"), inner.text("channel_id"),
		inner.object("item").text("channel"), inner.object("assistant_thread").text("channel_id"),
	)
}

// event returns the event of a request. The same request always gets the same id.
func (r request) event(eventType string, s sender, subject string, data []byte) (event.Event, error) {
	source, err := s.source()
	if err != nil {
		return event.Event{}, err
	}
	e := event.New()
	e.SetType(eventType)
	e.SetSource(source)
	e.SetID(r.signature.id())
	e.SetTime(r.signature.at)
	if isPrintable(subject) { // otherwise omitted: the name of something else would be wrong
		e.SetSubject(subject)
	}
	e.SetDataContentType(event.ApplicationJSON)
	e.DataEncoded = data
	// The headers in which Slack describes retries are unsigned, so unusual values are left out.
	for name, header := range map[string]string{"slackretrynum": "X-Slack-Retry-Num", "slackretryreason": "X-Slack-Retry-Reason"} {
		if values := r.header[http.CanonicalHeaderKey(header)]; len(values) == 1 && isWord(values[0]) {
			e.SetExtension(name, values[0])
		}
	}
	return e, nil
}

// first returns the first non-empty text, or "".
func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// isWord reports whether s looks like one of Slack's ids or types: 1 to 128 of A-Z, a-z, 0-9, "_",
// "." and "-".
func isWord(s string) bool {
	return s != "" && len(s) <= 128 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == ""
}

// isPrintable reports whether s is 1 to 255 characters of printable text. Slack limits an app's own
// ids to 255.
func isPrintable(s string) bool {
	return s != "" && utf8.RuneCountInString(s) <= 255 && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError })
}
