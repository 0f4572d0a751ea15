package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// slackSecret is where a seeded Vault keeps Slack's signing secret.
const slackSecret = "COFFEEBUDDY_SLACK_SECRET=secret/coffeebuddy/slack#signing_secret"

// command sends a slash command as Slack does, signed with a secret.
func (f *function) command(ctx context.Context, secret devstack.Secret, typed string) (answer, error) {
	name, text, _ := strings.Cut(typed, " ")
	body := url.Values{
		"token": {"canary"}, "team_id": {"T1"}, "api_app_id": {"A1"}, "user_id": {"U1"}, "command": {name}, "text": {text},
		"response_url": {"https://hooks.slack.com/commands/T1/1/canary"}, "trigger_id": {strconv.FormatInt(time.Now().UnixNano(), 10)},
	}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/slack/commands", strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	fmt.Fprintf(mac, "v0:%s:%s", timestamp, body)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("X-Slack-Request-Timestamp", timestamp)
	request.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	response, err := f.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(said)}, err
}

// TestSlackCommand is the whole way of a slash command, with the secret that a real
// Vault keeps.
func TestSlackCommand(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := start(t, append(p.environment(), slackSecret)...)
	a, err := f.command(t.Context(), p.vault.SigningSecret, "/coffee ping")
	is.NoErr(err)
	is.Equal(a.status, http.StatusOK)
	is.True(strings.Contains(a.body, "pong"))
	a, err = f.command(t.Context(), "of-somebody-else", "/coffee ping")
	is.NoErr(err)
	is.Equal(a.status, http.StatusUnauthorized)
}
