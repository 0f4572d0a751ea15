// Package checks answers one question: are the function's dependencies available?
//
// A [Checker] checks one dependency. [Readiness] runs all of them, on demand and at most once per
// TTL, keeps the verdict in memory, and is the Prometheus collector of that same verdict. [Vault]
// and [Ory] are the two checkers that the function needs; a third dependency is one more file with
// a Name and a Check.
//
// This package does not deal with HTTP handlers, events, or the environment. Settings and verdicts
// are plain values.
package checks

import "context"

// A Checker checks whether one dependency can serve.
type Checker interface {
	// Name is the dependency's name in verdicts, logs and metric labels.
	// It never changes.
	Name() string

	// Check returns nil if the dependency can serve, or why it cannot; [ReasonOf] returns the
	// error's reason. It must return when ctx ends. Readiness never runs two checks of one Checker
	// at a time.
	Check(ctx context.Context) error
}

// Misconfigured returns a Checker for a dependency whose settings are missing or wrong. Its reason
// is [ReasonMisconfigured] until the process restarts with other settings. It is never run, so no
// metric counts it as a check or a failure.
func Misconfigured(name string) Checker { return misconfigured(name) }

type misconfigured string

func (m misconfigured) Name() string { return string(m) }

func (m misconfigured) Check(context.Context) error {
	return Fail(ReasonMisconfigured, "settings are missing or wrong")
}
