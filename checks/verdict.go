package checks

import (
	"encoding/json"
	"time"
)

// Status is the overall status of a verdict.
type Status string

// The statuses of a verdict. Only ready is good.
const (
	StatusReady    Status = "ready"
	StatusDegraded Status = "degraded"
	StatusDraining Status = "draining"
)

// A Verdict is the readiness at one moment. It is shared and must not be changed.
type Verdict struct {
	Status     Status               `json:"status"`
	Components map[string]Component `json:"components"`

	retry bool
	json  []byte
}

// A Component is one dependency's part of a verdict. It has a reason exactly when its status is not
// "ok", and it never contains error text, a URL, a host or a setting's value.
type Component struct {
	Status    string     `json:"status"` // "ok" or "unavailable"
	Reason    Reason     `json:"reason,omitempty"`
	CheckedAt *time.Time `json:"checked_at,omitempty"` // when the last check ended, UTC; nil before the first
}

// Ready reports whether the function should receive traffic.
func (v *Verdict) Ready() bool { return v.Status == StatusReady }

// Retry reports whether asking again may help. It does not if every failure is a misconfiguration,
// which only a restart fixes.
func (v *Verdict) Retry() bool { return v.retry }

// JSON returns the verdict as a line of JSON. The caller must not change it.
func (v *Verdict) JSON() []byte { return v.json }

// newVerdict returns a verdict with its JSON.
func newVerdict(status Status, components map[string]Component, retry bool) *Verdict {
	v := &Verdict{Status: status, Components: components, retry: retry}
	line, err := json.Marshal(v)
	if err != nil {
		// Strings, and times of this century, always marshal.
		panic("checks: marshal a verdict: " + err.Error())
	}
	v.json = append(line, '\n')
	return v
}
