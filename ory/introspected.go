package ory

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"coffeebuddy/internal/fault"
)

// nbfLeeway is how far the clocks of Hydra and the function may differ, so that a token issued a
// moment ago is not refused.
const nbfLeeway = time.Second

// An introspected is an introspection response (RFC 7662, section 2.2). Members are parsed one by
// one when they are needed, so that a malformed member that is not needed does no harm.
type introspected struct {
	active  bool
	members map[string]json.RawMessage
}

func parseIntrospected(body []byte) (introspected, error) {
	var members map[string]json.RawMessage
	err := json.Unmarshal(body, &members)
	active := string(members["active"])
	if err != nil || active != "true" && active != "false" {
		return introspected{}, fault.New(fault.BadResponse, "introspection did not answer as Ory does")
	}
	return introspected{active == "true", members}, nil
}

// principal returns the identity behind the token. It hashes both members as raw JSON: this is
// unambiguous, and the values can be as long as the server likes.
func (t introspected) principal() string {
	sum := sha256.Sum256([]byte(string(t.members["client_id"]) + string(t.members["sub"])))
	return string(sum[:])
}

// unreadable returns the error for a required member with an invalid value, which is the server's
// fault.
func unreadable(member string) error {
	return fault.New(fault.BadResponse, "introspection answered with an unreadable "+member)
}

// judge returns what an active token permits, and when it expires, the zero time for never. An
// error is the server's fault.
func (t introspected) judge(scope, audience string, now time.Time) (permission Permission, end time.Time, err error) {
	end, err = t.time("exp")
	switch {
	case err != nil:
		return NotPermitted, end, err
	case !end.IsZero() && !now.Before(end):
		return NotPermitted, end, nil
	}
	switch begin, err := t.time("nbf"); {
	case err != nil:
		return NotPermitted, end, err
	case now.Add(nbfLeeway).Before(begin):
		return NotPermitted, end, nil
	}
	switch use, err := t.texts("token_use"); { // a Hydra extension: Hydra introspects refresh tokens too
	case err != nil:
		return NotPermitted, end, err
	case len(use) > 0 && (len(use) > 1 || use[0] != "" && use[0] != "access_token"):
		return NotPermitted, end, nil
	}
	switch audiences, err := t.texts("aud"); {
	case err != nil:
		return NotPermitted, end, err
	case len(audiences) > 0 && !slices.Contains(audiences, audience):
		return NotPermitted, end, nil
	}
	scopes, err := t.scopes()
	switch {
	case err != nil:
		return NotPermitted, end, err
	case !slices.Contains(scopes, scope):
		return LacksScope, end, nil
	}
	return Permitted, end, nil
}

// untimely reports whether the token is outside its period of validity.
func (t introspected) untimely(now time.Time) bool {
	end, _ := t.time("exp")
	begin, _ := t.time("nbf")
	return !end.IsZero() && !now.Before(end) || now.Add(nbfLeeway).Before(begin)
}

// wildcard reports whether one of the token's scopes may cover others.
func (t introspected) wildcard() bool {
	scopes, err := t.scopes()
	return err == nil && slices.ContainsFunc(scopes, func(s string) bool { return strings.Contains(s, "*") })
}

// scopes returns the scopes: a string separated by spaces, or a list, which some servers send.
func (t introspected) scopes() ([]string, error) {
	texts, err := t.texts("scope")
	return strings.Fields(strings.Join(texts, " ")), err
}

// texts returns a member that is a string or a list of strings, nil if it is absent.
func (t introspected) texts(member string) ([]string, error) {
	raw := t.members[member]
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var many []*string
	if json.Unmarshal(raw, &many) != nil {
		return nil, unreadable(member)
	}
	texts := make([]string, len(many))
	for i, text := range many {
		if text == nil {
			return nil, unreadable(member)
		}
		texts[i] = *text
	}
	return texts, nil
}

// time returns a member that is a number of seconds since 1970, with or without a fraction. It is
// the zero time if the member is absent.
func (t introspected) time(member string) (time.Time, error) {
	raw := string(t.members[member])
	if raw == "" || raw == "null" {
		return time.Time{}, nil
	}
	if text, ok := strings.CutPrefix(raw, `"`); ok { // some servers send a string
		raw = strings.TrimSuffix(text, `"`)
		if strings.Trim(raw, "0123456789") != "" {
			return time.Time{}, unreadable(member)
		}
	}
	seconds, err := strconv.ParseFloat(raw, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return time.Time{}, unreadable(member)
	}
	const farthest = 1 << 40 // seconds
	whole, fraction := math.Modf(max(0, min(seconds, farthest)))
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}
