package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A state is what readiness says of each dependency: "ok", or the reason why not.
type state struct{ vault, ory string }

// healthy is the state in which the function is ready.
func healthy() state { return state{vault: "ok", ory: "ok"} }

// probe asks for readiness once.
func (f *function) probe(t *testing.T) state {
	t.Helper()
	a := f.get(t.Context(), t, "/health/ready")
	s, err := readState(a)
	if err != nil {
		t.Fatalf("%v: %d %s", err, a.status, a.body)
	}
	return s
}

// becomes probes until readiness says want. Each dependency changes in one step: on the way it may be said to be as it was before,
// or as is wanted, and nothing else.
func (f *function) becomes(t *testing.T, want state, within time.Duration) {
	t.Helper()
	asked, from := time.Now(), f.last
	eventually(t, within, func() bool {
		t.Helper()
		s := f.probe(t)
		if s.vault != from.vault && s.vault != want.vault || s.ory != from.ory && s.ory != want.ory {
			t.Fatalf("it says %v between %v and %v", s, from, want)
		}
		return s == want
	})
	f.last = want
	t.Logf("%v after %s", want, time.Since(asked).Round(time.Millisecond))
}

// readState reads an answer of /health/ready, and holds it to the contract's form.
func readState(a answer) (state, error) {
	var body struct {
		Status     string               `json:"status"`
		Components map[string]component `json:"components"`
	}
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		return state{}, err
	}
	vault, err := body.Components["vault"].reason()
	if err != nil {
		return state{}, err
	}
	ory, err := body.Components["ory"].reason()
	if err != nil {
		return state{}, err
	}
	s := state{vault: vault, ory: ory}
	status, word, retry := http.StatusServiceUnavailable, "degraded", "1"
	if s == healthy() {
		status, word, retry = http.StatusOK, "ready", ""
	}
	switch {
	case len(body.Components) != 2:
		return state{}, errors.New("other components than vault and ory")
	case a.status != status || body.Status != word:
		return state{}, fmt.Errorf("status %d %s contradicts the components", a.status, body.Status)
	case a.header.Get("Retry-After") != retry:
		return state{}, fmt.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	case a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" ||
		a.header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasSuffix(a.body, "}\n"):
		return state{}, errors.New("a header is wrong, or the newline is missing")
	}
	return s, nil
}

// A component is one dependency's part of the answer.
type component struct {
	Status    string     `json:"status"`
	Reason    string     `json:"reason"`
	CheckedAt *time.Time `json:"checked_at"`
}

// reason returns "ok" or why not.
func (c component) reason() (string, error) {
	switch {
	case c.Status != "ok" && c.Status != "unavailable", (c.Status == "ok") != (c.Reason == ""):
		return "", errors.New("a component has a reason exactly when it is not ok")
	case (c.CheckedAt == nil) != (c.Reason == "pending"):
		return "", errors.New("a component has checked_at exactly when it was checked")
	case c.CheckedAt != nil && c.CheckedAt.Location() != time.UTC:
		return "", errors.New("checked_at is not in UTC")
	case c.Status == "ok":
		return "ok", nil
	}
	return c.Reason, nil
}
