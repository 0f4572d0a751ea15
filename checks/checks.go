// Package checks answers one question: are the function's dependencies there?
//
// A [Checker] asks one dependency. [Readiness] asks all of them, on demand and
// never more often than once per TTL, keeps the verdict in memory, and is the
// Prometheus collector of that same verdict. [Vault] and [Ory] are the two
// checkers the function needs; a third dependency is one more file with a
// Name and a Check.
//
// What does not belong here: HTTP handlers, events, and the environment.
// Settings come in as plain values and verdicts go out as plain values.
package checks

import "context"

// A Checker asks one dependency whether it can serve.
type Checker interface {
	// Name is the dependency's name in verdicts, logs and metric labels.
	// It never changes.
	Name() string

	// Check returns nil when the dependency can serve, or why it cannot, which
	// [ReasonOf] reads. It must stop when ctx ends. Readiness never runs two
	// checks of one Checker at a time.
	Check(ctx context.Context) error
}

// Misconfigured returns a Checker for a dependency whose settings are missing
// or wrong, so that there is nothing to ask. Its reason is [ReasonMisconfigured]
// until the process is restarted with other settings. It is never run: it
// counts in no check and in no failure.
func Misconfigured(name string) Checker { return misconfigured(name) }

type misconfigured string

func (m misconfigured) Name() string { return string(m) }

func (m misconfigured) Check(context.Context) error {
	return Fail(ReasonMisconfigured, "settings are missing or wrong")
}
