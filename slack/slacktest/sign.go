package slacktest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Requests are built and signed here independently of package slack, so that a test which uses both
// compares the two.

// Command returns the signed request for a slash command, such as "/coffee ping".
func Command(secret, typed string) *http.Request {
	command, text, _ := strings.Cut(typed, " ")
	form := url.Values{
		"token": {"a-token-that-nobody-needs"}, "team_id": {"T1"}, "team_domain": {"example"}, "api_app_id": {"A1"},
		"channel_id": {"C1"}, "channel_name": {"office"}, "user_id": {"U1"}, "user_name": {"ada"},
		"command": {command}, "text": {text}, "is_enterprise_install": {"false"},
		"response_url": {hooks + "/commands/T1/1/canary"}, "trigger_id": {"1.2.canary"},
	}
	return Request(secret, "/slack/commands", "application/x-www-form-urlencoded", form.Encode())
}

// Interaction returns the signed request for an interaction with a JSON payload.
func Interaction(secret, payload string) *http.Request {
	return Request(secret, "/slack/interactions", "application/x-www-form-urlencoded", url.Values{"payload": {payload}}.Encode())
}

// Event returns the signed request for an Events API event, given the JSON of its inner event.
func Event(secret, id, inner string) *http.Request {
	envelope, err := json.Marshal(map[string]any{
		"token": "a-token-that-nobody-needs", "team_id": "T1", "api_app_id": "A1", "type": "event_callback",
		"event_id": id, "event_time": time.Now().Unix(), "event": json.RawMessage(inner),
	})
	if err != nil {
		panic(fmt.Sprintf("slacktest: the inner event is no JSON: %v", err))
	}
	return Request(secret, "/slack/events", "application/json", string(envelope))
}

// Request returns a request with any body, signed at the current time.
func Request(secret, path, contentType, body string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "Slackbot 1.0 (+https://api.slack.com/robots)")
	Sign(r.Header, secret, body, time.Now())
	return r
}

// Sign sets the headers that sign a body at the given time.
func Sign(header http.Header, secret, body string, at time.Time) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("v0:" + timestamp + ":" + body))
	header.Set("X-Slack-Request-Timestamp", timestamp)
	header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
}
