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

// startSlack starts the function with Slack, and holds it to showing nobody the secret.
func startSlack(t *testing.T, p platform, variables ...string) *function {
	t.Helper()
	f := start(t, append(append(p.environment(), slackSecret, "COFFEEBUDDY_ENVIRONMENT=prod"), variables...)...)
	f.secrets["the signing secret"] = []string{p.vault.SigningSecret.Reveal()}
	f.secrets["a command"] = []string{"canary"}
	return f
}

// says returns the status of a ping that is signed with a secret.
func (f *function) says(t *testing.T, secret devstack.Secret) int {
	t.Helper()
	a, err := f.command(t.Context(), secret, "/coffee ping")
	if err != nil {
		t.Fatal(err)
	}
	if a.status == http.StatusOK && !strings.Contains(a.body, "pong") {
		t.Fatalf("it answered %s", a.body)
	}
	return a.status
}

// TestSlackCommand is the whole way of a slash command, with the secret that a real
// Vault keeps.
func TestSlackCommand(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := startSlack(t, p)
	const series = `coffeebuddy_slack_requests_total{kind="command",outcome="accepted"}`
	is.Equal(f.metrics(t.Context(), t)[series], 0.0)
	is.Equal(f.says(t, p.vault.SigningSecret), http.StatusOK)
	is.Equal(f.says(t, "of-somebody-else"), http.StatusUnauthorized)
	a, err := f.command(t.Context(), p.vault.SigningSecret, "/tea")
	is.NoErr(err)
	is.Equal(a.status, http.StatusOK)
	is.True(strings.Contains(a.body, "ephemeral"))
	is.Equal(f.metrics(t.Context(), t)[series], 1.0)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url, strings.NewReader(`{"command":"/coffee","text":"ping"}`))
	is.NoErr(err)
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "//slack.com/teams/T1/apps/A1", "Ce-Type": "com.slack.command", "Content-Type": "application/json",
	} {
		request.Header.Set(name, value)
	}
	response, err := f.client.Do(request)
	is.NoErr(err)
	response.Body.Close()
	is.Equal(response.StatusCode, http.StatusUnprocessableEntity) // only Slack's routes may speak for Slack
}

// TestSlackSecretIsRotated under load, without a restart: who signs with the new secret
// is refused for 10 s at most, and who still signs with the old one is not.
func TestSlackSecretIsRotated(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := startSlack(t, p)
	old, fresh := p.vault.SigningSecret, devstack.Secret("the-new-signing-secret")
	f.secrets["the new signing secret"] = []string{fresh.Reveal()}
	is.Equal(f.says(t, old), http.StatusOK)
	is.NoErr(p.vault.WriteSecret(t.Context(), "coffeebuddy/slack", map[string]devstack.Secret{"signing_secret": fresh}))
	rotated, refused, sent := time.Now(), time.Duration(0), 0
	eventually(t, time.Minute, func() bool {
		is.Equal(f.says(t, "forged"), http.StatusUnauthorized)
		is.Equal(f.says(t, old), http.StatusOK)
		if f.says(t, fresh) != http.StatusOK {
			refused = time.Since(rotated)
		}
		sent += 3
		return time.Since(rotated) > 15*time.Second
	})
	t.Logf("%d requests; the new secret was refused for %s", sent, refused.Round(time.Millisecond))
	is.True(refused < 10*time.Second+time.Second) // and what a busy machine takes for a read
}

// TestSlackWhileVaultIsSealed: what is known of the secret holds, with and without grace.
func TestSlackWhileVaultIsSealed(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	strict, graceful := startSlack(t, p), startSlack(t, p, "COFFEEBUDDY_READY_GRACE=1h")
	strict.becomes(t, healthy(), soon)
	graceful.becomes(t, healthy(), soon)
	is.Equal(strict.says(t, p.vault.SigningSecret), http.StatusOK)
	is.Equal(graceful.says(t, p.vault.SigningSecret), http.StatusOK)

	is.NoErr(p.vault.Seal(t.Context()))
	newcomer := startSlack(t, p)
	strict.becomes(t, state{vault: "sealed", ory: "ok"}, soon)
	eventually(t, soon, func() bool { return strings.Contains(graceful.get(t.Context(), t, "/health/ready").body, "sealed") })
	is.Equal(graceful.get(t.Context(), t, "/health/ready").status, http.StatusOK) // so that Knative sends what comes
	for range 3 {
		is.Equal(strict.says(t, p.vault.SigningSecret), http.StatusOK)
		is.Equal(graceful.says(t, p.vault.SigningSecret), http.StatusOK)
		is.Equal(strict.says(t, "forged"), http.StatusUnauthorized)
		asked := time.Now()
		is.Equal(newcomer.says(t, p.vault.SigningSecret), http.StatusServiceUnavailable) // never unverified
		is.True(time.Since(asked) < 2*time.Second)
	}
	is.NoErr(p.vault.Freeze(t.Context())) // and now it does not even answer
	is.Equal(strict.says(t, p.vault.SigningSecret), http.StatusOK)
	asked := time.Now()
	is.Equal(newcomer.says(t, p.vault.SigningSecret), http.StatusServiceUnavailable)
	is.True(time.Since(asked) < 2*time.Second)
	is.NoErr(p.vault.Thaw())
	is.NoErr(p.vault.Unseal(t.Context()))
	eventually(t, soon, func() bool { return newcomer.says(t, p.vault.SigningSecret) == http.StatusOK })
}
