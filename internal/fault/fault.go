// Package fault says in one word why a dependency cannot serve. It is what the clients
// in vault and ory, and the checks that use them, have in common: they return an
// [Error], and checks shows its [Reason].
package fault

// A Reason says in one word why a dependency cannot serve. The list is closed:
// a reason is safe to show to any caller and to use as a metric label.
type Reason string

// The reasons, in the order in which a request can meet them.
const (
	Misconfigured Reason = "misconfigured" // settings are missing or wrong, or no client can be built from them
	Pending       Reason = "pending"       // no check has finished yet
	Stale         Reason = "stale"         // the last verdict is too old and a new one is not there yet
	DNS           Reason = "dns"           // the host's name could not be resolved
	Refused       Reason = "refused"       // no connection, or it broke: refused, reset, unreachable, closed early
	TLS           Reason = "tls"           // the TLS handshake failed
	Timeout       Reason = "timeout"       // no response before the deadline
	BadResponse   Reason = "bad_response"  // the response is not the dependency's
	Unavailable   Reason = "unavailable"   // it answered that it is not ready
	Uninitialized Reason = "uninitialized" // Vault was never initialized
	Sealed        Reason = "sealed"        // Vault is sealed
	Inactive      Reason = "inactive"      // a Vault node that cannot serve
	Denied        Reason = "denied"        // Vault refuses the token, or the login
)

// Reasons returns every reason there is.
func Reasons() []Reason {
	return []Reason{
		Misconfigured, Pending, Stale,
		DNS, Refused, TLS, Timeout, BadResponse, Unavailable,
		Uninitialized, Sealed, Inactive, Denied,
	}
}

// An Error is a failure with a reason for everyone and a detail for the log.
//
// The detail is in words of our own. It never holds text that came over the wire, or
// from an error that may quote it, a URL or a header: a server that echoes its request
// would put the token into the log.
type Error struct {
	Reason Reason
	Detail string
}

// New returns an [Error].
func New(reason Reason, detail string) error { return &Error{reason, detail} }

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Detail }

// ReasonOf returns the reason of an error, and "" for nil. An error that carries no
// reason and is none of the network's is a bad response.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return Of(err).Reason
}
