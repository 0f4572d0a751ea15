package checks

import "coffeebuddy/internal/fault"

// A Reason is why a dependency cannot serve, as a short code. The list is closed, so a reason is
// safe to show to any caller and to use as a metric label.
type Reason = fault.Reason

// The reasons, in the order in which a request can encounter them.
const (
	ReasonMisconfigured = fault.Misconfigured // settings are missing or wrong, or no client can be built from them
	ReasonPending       = fault.Pending       // no check has finished yet
	ReasonStale         = fault.Stale         // the last verdict is too old, and no new one has arrived
	ReasonDNS           = fault.DNS           // the host's name could not be resolved
	ReasonRefused       = fault.Refused       // no connection, or a broken one: refused, reset, unreachable, closed early
	ReasonTLS           = fault.TLS           // the TLS handshake failed
	ReasonTimeout       = fault.Timeout       // no response before the deadline
	ReasonBadResponse   = fault.BadResponse   // the response is not the dependency's
	ReasonUnavailable   = fault.Unavailable   // the dependency reported that it is not ready
	ReasonUninitialized = fault.Uninitialized // Vault was never initialized
	ReasonSealed        = fault.Sealed        // Vault is sealed
	ReasonInactive      = fault.Inactive      // a Vault node that cannot serve
	ReasonDenied        = fault.Denied        // Vault refused the token, or the login
)

// Reasons returns every reason.
func Reasons() []Reason { return fault.Reasons() }

// An Error is a failed check: a reason for everyone and a detail for the log, in the checker's own
// words.
type Error = fault.Error

// Fail returns an error for a failed check. The detail must not contain text that came over the
// network or from an error that may quote it, nor a URL or a header.
func Fail(reason Reason, detail string) error { return fault.New(reason, detail) }

// ReasonOf returns the reason of a failed check, and "" for nil. An error without a reason that is
// not a network error is a bad response.
func ReasonOf(err error) Reason { return fault.ReasonOf(err) }
