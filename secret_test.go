package coffeebuddy_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"coffeebuddy"

	"github.com/matryer/is"
)

func TestSecretCannotBeShown(t *testing.T) {
	t.Parallel()
	const canary = "hvs.canary"
	secret := coffeebuddy.NewSecret(canary)
	type exported struct{ Token coffeebuddy.Secret }
	type unexported struct{ token coffeebuddy.Secret } // fmt cannot call methods here, and prints what it finds
	values := map[string]any{
		"value": secret, "pointer": &secret, "slice": []coffeebuddy.Secret{secret}, "map": map[string]coffeebuddy.Secret{"a": secret},
		"field": exported{secret}, "unexported field": unexported{secret}, "any": any(secret),
	}
	shown := func(t *testing.T, what string) {
		t.Helper()
		for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary), strings.Trim(fmt.Sprintf("%d", []byte(canary)), "[]")} {
			if strings.Contains(what, form) {
				t.Errorf("shown: %s", what)
			}
		}
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%t", "%T", "%p", "%U", "%10.3s", "%!"} {
				shown(t, fmt.Sprintf(verb, value))
			}
			shown(t, fmt.Sprint(value))
			shown(t, fmt.Sprintln(value))
			shown(t, fmt.Errorf("failed: %v", value).Error())
			shown(t, errors.Join(fmt.Errorf("%w", fmt.Errorf("%s", value))).Error())

			asJSON, err := json.Marshal(value)
			if err == nil {
				shown(t, string(asJSON))
			}
			if asXML, err := xml.Marshal(value); err == nil {
				shown(t, string(asXML))
			}
			var asGob bytes.Buffer
			if gob.NewEncoder(&asGob).Encode(value) == nil {
				shown(t, asGob.String())
			}
			for _, handler := range []func(*bytes.Buffer) slog.Handler{
				func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
				func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
			} {
				var logs bytes.Buffer
				log := slog.New(handler(&logs))
				log.Info(fmt.Sprint(value), "token", value, slog.Any("group", slog.GroupValue(slog.Any("token", value))))
				log.With("token", value).Error("x", "error", fmt.Errorf("x %+v", value))
				shown(t, logs.String())
			}
		})
	}
}

func TestSecretSaysThatItIsOne(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	secret := coffeebuddy.NewSecret("hvs.canary")
	is.Equal(fmt.Sprintf("%v %s %#v %q %x", secret, secret, secret, secret, secret), strings.TrimSpace(strings.Repeat("[redacted] ", 5)))
	asJSON, err := json.Marshal(secret)
	is.NoErr(err)
	is.Equal(string(asJSON), `"[redacted]"`)
	text, err := secret.MarshalText()
	is.NoErr(err)
	is.Equal(string(text), "[redacted]")
	is.Equal(secret.String(), "[redacted]")
	is.Equal(secret.GoString(), "[redacted]")
	is.Equal(secret.Reveal(), "hvs.canary")
	is.Equal(coffeebuddy.Secret{}.Reveal(), "")
}
