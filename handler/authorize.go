package handler

import (
	"net/http"
	"strings"
	"time"

	"coffeebuddy/events"
)

// An Authorization is what is known of a bearer token.
type Authorization int

// The authorizations. The zero value is that nobody could be asked.
const (
	AuthorizationUnknown Authorization = iota // 503: the sender is to come back
	Authorized                                // it is good and has the scope
	InvalidToken                              // 401: it is expired, revoked, of somebody else, or no token
	InsufficientScope                         // 403: it is good for something else
)

// bearerLimit is the length of the longest token that is asked about, in bytes. JSON
// Web Tokens have one to four thousand.
const bearerLimit = 8 << 10

// authorized reports whether the sender may send events, and as whom, or how to refuse.
func (h *Handler) authorized(w *response, r *http.Request) (refusal answer, ok bool) {
	if h.config.EventsScope == "" {
		return answer{}, true
	}
	credentials := r.Header["Authorization"]
	if !hasBearer(credentials) {
		return h.challenge(http.StatusUnauthorized, ""), false
	}
	authorization := InvalidToken
	if token, ok := bearerToken(credentials); ok {
		authorization, w.principal = h.config.Authorize(r.Context(), token)
	}
	switch authorization {
	case Authorized:
		return answer{}, true
	case InvalidToken:
		return h.challenge(http.StatusUnauthorized, "invalid_token"), false
	case InsufficientScope:
		return h.challenge(http.StatusForbidden, "insufficient_scope"), false
	}
	return answerOf(events.Verdict{Outcome: events.Retry, RetryAfter: time.Second}), false
}

// challenge is a refusal that says which token is needed, and with one of the codes of
// RFC 6750, section 3.1, what is wrong with the one that came; "" if none did.
func (h *Handler) challenge(status int, code string) answer {
	challenge := `Bearer realm="coffeebuddy"`
	if code != "" {
		challenge += `, error="` + code + `"`
	}
	return answer{status: status, verdict: events.Verdict{Outcome: events.Unauthorized}, challenge: challenge + `, scope="` + h.config.EventsScope + `"`}
}

// hasBearer reports whether any of the credentials uses the scheme Bearer.
func hasBearer(credentials []string) bool {
	for _, c := range credentials {
		if scheme, _, _ := strings.Cut(c, " "); strings.EqualFold(scheme, "Bearer") {
			return true
		}
	}
	return false
}

// bearerToken returns the token of credentials (RFC 6750, section 2.1), and whether
// they are one that can be one.
func bearerToken(credentials []string) (string, bool) {
	if len(credentials) != 1 {
		return "", false // implementations disagree on which one wins
	}
	_, token, _ := strings.Cut(credentials[0], " ")
	token = strings.TrimLeft(token, " ")
	text := strings.TrimRight(token, "=")
	if text == "" || len(token) > bearerLimit {
		return "", false
	}
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~+/", c) >= 0:
		default:
			return "", false
		}
	}
	return token, true
}
