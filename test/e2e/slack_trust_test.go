package e2e

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// A slackEvent is a com.slack.command as the function hands it to the sink, and as a broker
// brings it back. It is signed here by other code than the function's.
type slackEvent struct {
	id, data string
	at       time.Time
	version  int // of the secret in Vault
}

// signature returns the extension coffeebuddysignature, made with a secret.
func (e slackEvent) signature(t *testing.T, secret devstack.Secret) string {
	t.Helper()
	key, err := hkdf.Key(sha256.New, []byte(secret.Reveal()), nil, "coffeebuddy slack event signature v1", 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	write := func(text string) {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(text)))
		_, _ = io.WriteString(mac, text)
	}
	at := strconv.FormatInt(e.at.Unix(), 10)
	for _, text := range []string{
		strconv.Itoa(e.version), at, "1.0", e.id, e.source(), "com.slack.command", "/coffee", e.at.UTC().Format(time.RFC3339),
		"application/json", "", "", "",
	} {
		write(text)
	}
	for decoder := json.NewDecoder(strings.NewReader(e.data)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(string); ok {
			write("string")
			write(text)
			continue
		}
		write(fmt.Sprint(token)) // a brace: there is nothing else in it
	}
	return fmt.Sprintf("v1-%d-%s-%s", e.version, at, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}

func (slackEvent) source() string { return "//slack.com/teams/T1/apps/A1" }

// deliver sends an event to POST / as a broker does, and returns the status.
func (f *function) deliver(ctx context.Context, t *testing.T, e slackEvent, signature string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, strings.NewReader(e.data))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": e.id, "Ce-Source": e.source(), "Ce-Type": "com.slack.command", "Ce-Subject": "/coffee",
		"Ce-Time": e.at.UTC().Format(time.RFC3339), "Content-Type": "application/json", "Ce-Knativearrivaltime": e.at.UTC().Format(time.RFC3339Nano),
	} {
		request.Header.Set(name, value)
	}
	if signature != "" {
		request.Header.Set("Ce-Coffeebuddysignature", signature)
	}
	response, err := f.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// TestSlackEventsThatComeBack from a broker are received if the function has signed them, with
// any version of the secret that the real Vault keeps.
func TestSlackEventsThatComeBack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	f := startSlack(t, p)
	old, fresh := p.vault.SigningSecret, devstack.Secret("the-new-signing-secret")
	f.secrets["the new signing secret"] = []string{fresh.Reveal()}
	n := 0
	next := func(version int) slackEvent {
		n++
		return slackEvent{id: strconv.Itoa(n), data: `{"command":"/coffee","text":"ping"}`, at: time.Now(), version: version}
	}
	first := next(1)
	is.Equal(f.deliver(t.Context(), t, first, ""), http.StatusUnprocessableEntity)
	is.Equal(f.deliver(t.Context(), t, first, first.signature(t, old)), http.StatusNoContent)
	is.Equal(f.deliver(t.Context(), t, first, first.signature(t, "of-somebody-else")), http.StatusUnprocessableEntity)
	changed := first
	changed.data = `{"command":"/coffee","text":"echo canary"}`
	is.Equal(f.deliver(t.Context(), t, changed, first.signature(t, old)), http.StatusUnprocessableEntity)
	spaced := next(1)
	signature := spaced.signature(t, old)
	var indented bytes.Buffer
	is.NoErr(json.Indent(&indented, []byte(spaced.data), "", "  "))
	spaced.data = indented.String()
	is.Equal(f.deliver(t.Context(), t, spaced, signature), http.StatusNoContent) // a broker may write its JSON anew
	late := next(1)
	late.at = late.at.Add(-25 * time.Hour)
	is.Equal(f.deliver(t.Context(), t, late, late.signature(t, old)), http.StatusUnprocessableEntity)

	is.NoErr(p.vault.WriteSecret(t.Context(), "coffeebuddy/slack", map[string]devstack.Secret{"signing_secret": fresh}))
	is.NoErr(p.vault.WriteSecret(t.Context(), "coffeebuddy/slack", map[string]devstack.Secret{"signing_secret": "a-third"}))
	other := startSlack(t, p) // which knows none of them
	for version, secret := range map[int]devstack.Secret{1: old, 2: fresh, 3: "a-third"} {
		for _, f := range []*function{f, other} {
			e := next(version)
			is.Equal(f.deliver(t.Context(), t, e, e.signature(t, secret)), http.StatusNoContent) // version
			e = next(version)
			is.Equal(f.deliver(t.Context(), t, e, e.signature(t, "of-somebody-else")), http.StatusUnprocessableEntity)
		}
	}
	made := next(7)
	is.Equal(other.deliver(t.Context(), t, made, made.signature(t, old)), http.StatusUnprocessableEntity) // Vault has no such version

	is.NoErr(p.vault.Call(t.Context(), p.vault.RootToken, http.MethodPut, "secret/destroy/coffeebuddy/slack", map[string]any{"versions": []int{1}}, nil))
	leaked := next(1)
	is.Equal(startSlack(t, p).deliver(t.Context(), t, leaked, leaked.signature(t, old)), http.StatusUnprocessableEntity)

	newcomer := startSlack(t, p)
	is.NoErr(p.vault.Seal(t.Context()))
	waiting := next(2)
	is.Equal(newcomer.deliver(t.Context(), t, waiting, waiting.signature(t, fresh)), http.StatusServiceUnavailable) // never unchecked
	is.Equal(other.deliver(t.Context(), t, waiting, waiting.signature(t, fresh)), http.StatusNoContent)             // which knows it
	is.NoErr(p.vault.Unseal(t.Context()))
	eventually(t, soon, func() bool {
		return newcomer.deliver(t.Context(), t, waiting, waiting.signature(t, fresh)) == http.StatusNoContent
	})
}

// TestForgedSlackRequestsSpendFewUses of a token that has few: each read of the secret is one.
func TestForgedSlackRequestsSpendFewUses(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := startPlatform(t, devstack.VaultOptions{})
	const uses = 20
	token, err := p.vault.CreateToken(t.Context(), devstack.TokenOptions{NumUses: uses})
	is.NoErr(err)
	f := startSlack(t, p, "VAULT_TOKEN="+token.Reveal())
	is.Equal(f.says(t, p.vault.SigningSecret), http.StatusOK)
	before := usesLeft(t, p.vault, token)
	began, sent := time.Now(), 0
	eventually(t, 2*time.Minute, func() bool {
		is.Equal(f.says(t, "forged"), http.StatusUnauthorized)
		sent++
		return time.Since(began) > 45*time.Second
	})
	spent := before - usesLeft(t, p.vault, token)
	t.Logf("%d forged requests in 45 s cost %d uses", sent, spent)
	is.True(spent <= 2) // 10 s and 30 s after the first read
	is.Equal(f.says(t, p.vault.SigningSecret), http.StatusOK)
}
