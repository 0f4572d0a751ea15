package checks

import "coffeebuddy/internal/fault"

// A Reason says in one word why a dependency cannot serve. The list is closed:
// a reason is safe to show to any caller and to use as a metric label.
type Reason = fault.Reason

// The reasons, in the order in which a request can meet them.
const (
	ReasonMisconfigured = fault.Misconfigured // settings are missing or wrong, or no client can be built from them
	ReasonPending       = fault.Pending       // no check has finished yet
	ReasonStale         = fault.Stale         // the last verdict is too old and a new one is not there yet
	ReasonDNS           = fault.DNS           // the host's name could not be resolved
	ReasonRefused       = fault.Refused       // no connection, or it broke: refused, reset, unreachable, closed early
	ReasonTLS           = fault.TLS           // the TLS handshake failed
	ReasonTimeout       = fault.Timeout       // no response before the deadline
	ReasonBadResponse   = fault.BadResponse   // the response is not the dependency's
	ReasonUnavailable   = fault.Unavailable   // it answered that it is not ready
	ReasonUninitialized = fault.Uninitialized // Vault was never initialized
	ReasonSealed        = fault.Sealed        // Vault is sealed
	ReasonInactive      = fault.Inactive      // a Vault node that cannot serve
	ReasonDenied        = fault.Denied        // Vault refuses the token, or the login
)

// Reasons returns every reason there is.
func Reasons() []Reason { return fault.Reasons() }

// An Error is a failed check: a reason for everyone and a detail for the log, in words
// of the checker's own.
type Error = fault.Error

// Fail returns the error of a check that failed for a reason. The detail must not hold
// text that came over the wire, or from an error that may quote it, a URL or a header.
func Fail(reason Reason, detail string) error { return fault.New(reason, detail) }

// ReasonOf returns the reason of a failed check, and "" for nil. An error that carries
// no reason and is none of the network's is a bad response.
func ReasonOf(err error) Reason { return fault.ReasonOf(err) }
