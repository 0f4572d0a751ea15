package slack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxSkew is how far a request's time may be from ours, in either direction. Slack recommends this
// value.
const maxSkew = 5 * time.Minute

// A signature is what a request's headers claim.
type signature struct {
	timestamp string // as signed
	at        time.Time
	text      string // v0= and 64 hexadecimal digits
}

// signatureOf returns the signature in a request's headers, and false for one that no secret could
// make valid: missing, duplicated, malformed, or outside maxSkew.
func signatureOf(header http.Header, now time.Time) (signature, bool) {
	timestamps, texts := header["X-Slack-Request-Timestamp"], header["X-Slack-Signature"]
	if len(timestamps) != 1 || len(texts) != 1 {
		return signature{}, false
	}
	s := signature{timestamp: timestamps[0], text: texts[0]}
	digits, ok := strings.CutPrefix(s.text, "v0=")
	// Lower case only: replays are recognized by this text.
	if !ok || len(digits) != hex.EncodedLen(sha256.Size) || strings.Trim(digits, "0123456789abcdef") != "" {
		return signature{}, false
	}
	seconds, err := strconv.ParseInt(s.timestamp, 10, 64)
	skew := now.Unix() - seconds
	if err != nil || strings.Trim(s.timestamp, "0123456789") != "" || max(skew, -skew) > int64(maxSkew/time.Second) {
		return signature{}, false
	}
	s.at = time.Unix(seconds, 0).UTC()
	return s, true
}

// sign returns the signature of a body at a time by Slack's scheme v0: HMAC-SHA256 over "v0:", the
// timestamp, ":" and the raw body.
func sign(secret, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("v0:" + timestamp + ":"))
	mac.Write(body)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}

// by reports, in constant time, whether the signature was made with a secret for a body.
func (s signature) by(secret string, body []byte) bool {
	return hmac.Equal([]byte(s.text), []byte(sign(secret, s.timestamp, body)))
}

// id returns an id for an event without one. The same signed request always gets the same id, so a
// replay is a duplicate; the id does not reveal the signature.
func (s signature) id() string {
	sum := sha256.Sum256([]byte(s.text))
	return hex.EncodeToString(sum[:16])
}
