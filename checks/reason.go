package checks

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// A Reason says in one word why a dependency cannot serve. The list is closed:
// a reason is safe to show to any caller and to use as a metric label.
type Reason string

// The reasons, in the order in which a request can meet them.
const (
	ReasonMisconfigured Reason = "misconfigured" // settings are missing or wrong, or no client can be built from them
	ReasonPending       Reason = "pending"       // no check has finished yet
	ReasonStale         Reason = "stale"         // the last verdict is too old and a new one is not there yet
	ReasonDNS           Reason = "dns"           // the host's name could not be resolved
	ReasonRefused       Reason = "refused"       // no connection, or it broke: refused, reset, unreachable, closed early
	ReasonTLS           Reason = "tls"           // the TLS handshake failed
	ReasonTimeout       Reason = "timeout"       // no answer before the deadline
	ReasonBadResponse   Reason = "bad_response"  // what came is not the dependency's answer
	ReasonUnavailable   Reason = "unavailable"   // it answered that it is not ready
	ReasonUninitialized Reason = "uninitialized" // Vault was never initialized
	ReasonSealed        Reason = "sealed"        // Vault is sealed
	ReasonInactive      Reason = "inactive"      // a Vault node that cannot serve
	ReasonDenied        Reason = "denied"        // Vault refuses the token
)

// Reasons returns every reason there is.
func Reasons() []Reason {
	return []Reason{
		ReasonMisconfigured, ReasonPending, ReasonStale,
		ReasonDNS, ReasonRefused, ReasonTLS, ReasonTimeout, ReasonBadResponse, ReasonUnavailable,
		ReasonUninitialized, ReasonSealed, ReasonInactive, ReasonDenied,
	}
}

// An Error is a failed check: a reason for everyone and a detail for the log.
//
// The detail is in words of the checker's own. Text that came over the wire, or
// from an error that may quote it, a URL or a header, has no place in it: a
// server that echoes its request would put the token into the log.
type Error struct {
	Reason Reason
	Detail string
}

// Fail returns the error of a check that failed for a reason.
func Fail(reason Reason, detail string) error { return &Error{reason, detail} }

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Detail }

// ReasonOf returns the reason of a failed check, and "" for nil. An error that
// carries no reason and is none of the network's is a bad response.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	return classify(err).Reason
}

// classify is the one place where an error becomes a reason. What it reads are
// types and error numbers; texts only where net/http has no type.
func classify(err error) *Error {
	var (
		known    *Error
		dns      *net.DNSError
		errno    syscall.Errno
		op       *net.OpError
		netError net.Error
	)
	switch {
	case errors.As(err, &known):
		return known
	case isAlert(err): // a TLS 1.3 server may refuse our side after the handshake
		return &Error{ReasonTLS, "ended by a TLS alert"}
	case errors.As(err, &dns) && !dns.IsTimeout: // one that does not answer is a timeout, as the check's own deadline may say first
		return &Error{ReasonDNS, dnsDetail(dns)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.As(err, &netError) && netError.Timeout():
		return &Error{ReasonTimeout, "no answer before the deadline"}
	case errors.As(err, &errno):
		return &Error{ReasonRefused, errno.Error()}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), closedIdle(err):
		return &Error{ReasonRefused, "connection closed early"}
	case errors.As(err, &op):
		return &Error{ReasonRefused, "connection failed"}
	}
	return &Error{ReasonBadResponse, "not an HTTP answer"}
}

// closedIdle reports whether the server closed a connection on which nothing
// had been asked yet. net/http has no exported error for it, and says the same
// of a fresh connection that the server drops at once.
func closedIdle(err error) bool {
	return strings.HasSuffix(err.Error(), "http: server closed idle connection")
}

func dnsDetail(err *net.DNSError) string {
	if err.IsNotFound {
		return "no such host"
	}
	return "the host's name cannot be resolved"
}

// handshakeError classifies a failed TLS handshake. A connection that broke or
// hung during it failed in that way; everything else is [ReasonTLS].
func handshakeError(err error) *Error {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return &Error{ReasonTLS, "certificate signed by an unknown authority"}
	case errors.As(err, &host):
		return &Error{ReasonTLS, "certificate is not valid for this host"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &Error{ReasonTLS, "certificate has expired or is not yet valid"}
	case errors.As(err, &invalid):
		return &Error{ReasonTLS, "certificate is not valid"}
	}
	if e := classify(err); e.Reason != ReasonBadResponse {
		return e
	}
	return &Error{ReasonTLS, "handshake failed"}
}

// isAlert reports whether the peer, or our side, ended the connection with a TLS
// alert; crypto/tls wraps it like an error of the network.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// statusError is what any status but 200 means: it answered, and it is not ready.
func statusError(status int) *Error {
	return &Error{ReasonUnavailable, "status " + strconv.Itoa(status)}
}
