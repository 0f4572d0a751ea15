package slack

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// An event that was verified on one of Slack's routes and handed to the sink returns through POST
// /, where anyone may send. It carries a signature of our own in an extension attribute, by which
// the function recognizes it.

const (
	// signatureExtension is the extension attribute that carries the signature:
	// "v1-<version>-<time>-<mac>", with the version of the signing secret in Vault, the
	// time of the signature in Unix seconds, and an HMAC-SHA256 in unpadded base64url.
	signatureExtension = "coffeebuddysignature"

	// trustLabel separates this key from other uses of the secret: it signs only our events, and no
	// signature of Slack's is valid under it.
	trustLabel = "coffeebuddy slack event signature v1"

	// trustAge is how long a signature is valid. A broker stops retrying well before that.
	trustAge = 24 * time.Hour
)

var errUntrusted = errors.New("the event has no valid signature of this function")

// A seal is the content of the extension.
type seal struct {
	version int
	at      int64 // Unix seconds
	mac     []byte
}

func (s seal) String() string {
	return fmt.Sprintf("v1-%d-%d-%s", s.version, s.at, base64.RawURLEncoding.EncodeToString(s.mac))
}

// sealOf parses the seal of an event, and reports whether it can be valid at a time.
func sealOf(e event.Event, now time.Time) (seal, bool) {
	text, _ := e.Extensions()[signatureExtension].(string)
	parts := strings.SplitN(text, "-", 4) // base64url may contain a hyphen too
	if len(parts) != 4 || parts[0] != "v1" {
		return seal{}, false
	}
	version, err1 := strconv.Atoi(parts[1])
	at, err2 := strconv.ParseInt(parts[2], 10, 64)
	mac, err3 := base64.RawURLEncoding.Strict().DecodeString(parts[3])
	s := seal{version, at, mac}
	switch {
	case errors.Join(err1, err2, err3) != nil, version < 0, len(mac) != sha256.Size, s.String() != text: // only the canonical form is accepted
		return seal{}, false
	case now.Unix()-at > int64(trustAge/time.Second), at-now.Unix() > int64(maxSkew/time.Second):
		return seal{}, false
	}
	return s, true
}

// sealed returns an event signed with a version of the secret.
func sealed(e event.Event, secret string, version int, now time.Time) (event.Event, error) {
	s := seal{version: version, at: now.Unix()}
	var err error
	if s.mac, err = s.macOf(e, secret); err != nil {
		return event.Event{}, err
	}
	out := event.Event{Context: e.Context.Clone(), DataEncoded: e.DataEncoded}
	out.SetExtension(signatureExtension, s.String())
	return out, nil
}

// by reports, in constant time, whether the seal was made with a secret for an event.
func (s seal) by(e event.Event, secret string) bool {
	mac, err := s.macOf(e, secret)
	return err == nil && hmac.Equal(mac, s.mac)
}

// macOf returns the HMAC of an event under the key derived from a secret. It covers everything that
// a receiver may act on: the seal's version and time, the attributes of the specification, the
// extensions made from Slack's request, and the data. Each part is preceded by its length, so that
// no two events produce the same text. Other extensions are not covered: brokers add their own on
// the way, and trace contexts change.
func (s seal) macOf(e event.Event, secret string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, trustLabel, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key for events: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	for _, text := range []string{
		strconv.Itoa(s.version), strconv.FormatInt(s.at, 10),
		e.SpecVersion(), e.ID(), e.Source(), e.Type(), e.Subject(), e.Time().UTC().Format(time.RFC3339Nano),
		e.DataContentType(), e.DataSchema(),
		extensionOf(e, "slackretrynum"), extensionOf(e, "slackretryreason"),
	} {
		writeText(mac, text)
	}
	if err := writeJSON(mac, e.Data()); err != nil {
		return nil, err
	}
	return mac.Sum(nil), nil
}

// extensionOf returns an extension attribute as text, or "" if it is absent: attributes are never
// empty.
func extensionOf(e event.Event, name string) string {
	text, _ := types.Format(e.Extensions()[name])
	return text
}

func writeText(mac hash.Hash, text string) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(text)))
	mac.Write(length[:])
	_, _ = io.WriteString(mac, text)
}

// writeJSON writes JSON token by token, each with its kind and length. A broker that stores events
// in structured mode may change white space or escapes in the JSON, which does not change the
// tokens; any other change does.
func writeJSON(mac hash.Hash, data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errMalformed
		}
		switch token := token.(type) {
		case string:
			writeText(mac, "string")
			writeText(mac, token)
		case json.Number:
			writeText(mac, "number")
			writeText(mac, token.String())
		default: // a brace or bracket, true, false, null
			writeText(mac, fmt.Sprint(token))
		}
	}
}
