package slack

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"coffeebuddy/handler"

	"github.com/cloudevents/sdk-go/v2/event"
)

// The types of the events.
const (
	commandType       = "com.slack.command"
	interactionPrefix = "com.slack.interaction."
	eventPrefix       = "com.slack.event."
)

const (
	// onceAge is how long a command or a click is remembered: longer than its signature
	// is good.
	onceAge = 3 * maxSkew

	// retryAge is how long an event is remembered that was accepted. Slack's last retry
	// comes six minutes after the first attempt.
	retryAge = time.Hour
)

var errMalformed = errors.New("malformed")

// A delivery is an event and what Slack expects for it.
type delivery struct {
	kind        kind
	event       event.Event
	option      handler.Option
	responseURL string // "" for none
	inAnswer    bool   // Slack takes a reply in the answer
	nobodys     bool   // a command that has no receiver
	challenge   string // of the test of a route; there is no event then
}

// commandOf makes a delivery of a slash command: the event's data is its form as an
// object.
func (a *App) commandOf(r request) (*delivery, error) {
	fields, err := formOf(r.body)
	if err != nil {
		return nil, err
	}
	name := fields["command"]
	if !isCommand(name) {
		return nil, errMalformed
	}
	s := sender{
		enterprise: fields["enterprise_id"], team: fields["team_id"], app: fields["api_app_id"],
		org: fields["is_enterprise_install"] == "true",
	}
	delete(fields, "token")
	d := &delivery{
		kind: command, option: handler.Once(onceAge), responseURL: fields["response_url"],
		inAnswer: true, nobodys: a.find(name, fields["text"]) == nil,
	}
	d.event, err = r.event(commandType, s, name, marshal(fields))
	return d, err
}

// formOf returns the fields of a form, each of which must be there once, and be text.
func formOf(body []byte) (map[string]string, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errMalformed
	}
	fields := make(map[string]string, len(values))
	for name, value := range values {
		if len(value) != 1 || !utf8.ValidString(name) || !utf8.ValidString(value[0]) {
			return nil, errMalformed
		}
		fields[name] = value[0]
	}
	return fields, nil
}

// interactionOf makes a delivery of an interaction: the event's data is its payload.
func interactionOf(r request) (*delivery, error) {
	fields, err := formOf(r.body)
	if err != nil {
		return nil, err
	}
	var p struct {
		Type         string
		APIAppID     string `json:"api_app_id"`
		Team         struct{ ID string }
		Enterprise   struct{ ID string }
		IsEnterprise bool   `json:"is_enterprise_install"`
		ResponseURL  string `json:"response_url"`
		CallbackID   string `json:"callback_id"`
		ActionID     string `json:"action_id"`
		Actions      []struct {
			ActionID string `json:"action_id"`
		}
		View struct {
			CallbackID string `json:"callback_id"`
		}
	}
	data, err := payload(fields["payload"], &p)
	if err != nil || !isWord(p.Type) {
		return nil, errMalformed
	}
	if len(p.Actions) > 0 {
		p.ActionID = p.Actions[0].ActionID
	}
	d := &delivery{kind: interaction, option: handler.Once(onceAge), responseURL: p.ResponseURL}
	switch p.Type {
	case "view_submission", "block_suggestion", "dialog_submission", "dialog_suggestion", "interactive_message":
		d.inAnswer = true
	}
	s := sender{p.Enterprise.ID, p.Team.ID, p.APIAppID, p.IsEnterprise}
	d.event, err = r.event(interactionPrefix+p.Type, s, first(p.ActionID, p.CallbackID, p.View.CallbackID), data)
	return d, err
}

// eventOf makes a delivery of what the Events API sends: the event's data is its
// envelope.
func eventOf(r request) (*delivery, error) {
	var p struct {
		Type           string
		Challenge      string
		EnterpriseID   string `json:"enterprise_id"`
		TeamID         string `json:"team_id"`
		APIAppID       string `json:"api_app_id"`
		EventID        string `json:"event_id"`
		EventTime      int64  `json:"event_time"`
		Authorizations []struct {
			IsEnterprise bool `json:"is_enterprise_install"`
		}
		Event struct {
			Type    string
			Channel json.RawMessage
			Item    struct{ Channel string }
		}
	}
	data, err := payload(string(r.body), &p)
	if err != nil {
		return nil, err
	}
	eventType := p.Type
	switch p.Type {
	case "url_verification":
		if !isPrintable(p.Challenge) {
			return nil, errMalformed
		}
		return &delivery{challenge: p.Challenge}, nil
	case "event_callback":
		eventType = p.Event.Type
	}
	if !isWord(eventType) || p.EventID != "" && !isWord(p.EventID) {
		return nil, errMalformed
	}
	s := sender{p.EnterpriseID, p.TeamID, p.APIAppID, len(p.Authorizations) > 0 && p.Authorizations[0].IsEnterprise}
	var channel string
	var object struct{ ID string }
	_ = json.Unmarshal(p.Event.Channel, &channel) // one of the two, or none
	_ = json.Unmarshal(p.Event.Channel, &object)
	d := &delivery{kind: deliveredEvent, option: handler.Deduplicate(retryAge)}
	d.event, err = r.event(eventPrefix+eventType, s, first(channel, object.ID, p.Event.Item.Channel), data)
	if err != nil {
		return nil, err
	}
	if p.EventID != "" {
		d.event.SetID(p.EventID)
	}
	const lastYear = 253402300799 // of four digits
	if p.EventTime > 0 && p.EventTime <= lastYear {
		d.event.SetTime(time.Unix(p.EventTime, 0).UTC())
	}
	return d, nil
}

// payload reads what is known of a JSON object, and returns it whole, but for Slack's
// old token. A field of another type than expected counts as absent: what is new with
// Slack is not malformed.
func payload(text string, known any) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return nil, errMalformed
	}
	var other *json.UnmarshalTypeError
	if err := json.Unmarshal([]byte(text), known); err != nil && !errors.As(err, &other) {
		return nil, errMalformed
	}
	delete(fields, "token")
	return marshal(fields), nil
}

// event returns the event of a request. Its id is the same for the same request.
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
	if subject != "" {
		e.SetSubject(subject)
	}
	e.SetDataContentType(event.ApplicationJSON)
	e.DataEncoded = data
	// Retries are told in headers that are not signed: what is not plain is left out.
	for name, header := range map[string]string{"slackretrynum": "X-Slack-Retry-Num", "slackretryreason": "X-Slack-Retry-Reason"} {
		if values := r.header[http.CanonicalHeaderKey(header)]; len(values) == 1 && isWord(values[0]) {
			e.SetExtension(name, values[0])
		}
	}
	return e, nil
}

// A sender is where a request is from. Any of the ids may be missing.
type sender struct {
	enterprise, team, app string
	org                   bool // the app is installed in the enterprise, not in a team
}

// source returns the sender as the source of events.
func (s sender) source() (string, error) {
	source := "//slack.com"
	switch {
	case s.enterprise != "" && (s.org || s.team == ""):
		source += "/enterprises/" + s.enterprise
	case s.team != "":
		source += "/teams/" + s.team
	}
	if s.app != "" {
		source += "/apps/" + s.app
	}
	for _, id := range []string{s.enterprise, s.team, s.app} {
		if id != "" && !isWord(id) {
			return "", errMalformed
		}
	}
	return source, nil
}

// first returns the first of some texts that can be a subject, "" for none.
func first(texts ...string) string {
	for _, text := range texts {
		if isPrintable(text) {
			return text
		}
	}
	return ""
}

// isWord reports whether s is 1 to 128 of A-Z, a-z, 0-9, "_", "." and "-": an id or a
// type of Slack's.
func isWord(s string) bool {
	return s != "" && len(s) <= 128 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == ""
}

// isPrintable reports whether s is 1 to 255 bytes of printable text.
func isPrintable(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
