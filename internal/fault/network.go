package fault

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

// Of is the one place where an error becomes a reason. It reads types and error
// numbers, and texts only where net/http has no type.
func Of(err error) *Error {
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
		return &Error{TLS, "ended by a TLS alert"}
	case errors.As(err, &dns) && !dns.IsTimeout: // a DNS timeout is a timeout, as the check's own deadline may say first
		return &Error{DNS, dnsDetail(dns)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.As(err, &netError) && netError.Timeout():
		return &Error{Timeout, "no response before the deadline"}
	case errors.As(err, &errno):
		return &Error{Refused, errno.Error()}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), closedIdle(err):
		return &Error{Refused, "connection closed early"}
	case errors.As(err, &op):
		return &Error{Refused, "connection failed"}
	}
	return &Error{BadResponse, "not an HTTP response"}
}

// closedIdle reports whether the server closed a connection before anything was asked
// on it. net/http has no exported error for it, and says the same of a fresh connection
// that the server drops at once.
func closedIdle(err error) bool {
	return strings.HasSuffix(err.Error(), "http: server closed idle connection")
}

func dnsDetail(err *net.DNSError) string {
	if err.IsNotFound {
		return "no such host"
	}
	return "the host's name cannot be resolved"
}

// Handshake classifies a failed TLS handshake. If the connection broke or hung during
// it, that is the reason; everything else is [TLS].
func Handshake(err error) *Error {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return &Error{TLS, "certificate signed by an unknown authority"}
	case errors.As(err, &host):
		return &Error{TLS, "certificate is not valid for this host"}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &Error{TLS, "certificate has expired or is not yet valid"}
	case errors.As(err, &invalid):
		return &Error{TLS, "certificate is not valid"}
	}
	if e := Of(err); e.Reason != BadResponse {
		return e
	}
	return &Error{TLS, "handshake failed"}
}

// isAlert reports whether the peer, or our side, ended the connection with a TLS
// alert; crypto/tls wraps it like an error of the network.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// Status is what any status but 200 means: it answered that it is not ready.
func Status(status int) error { return &Error{Unavailable, "status " + strconv.Itoa(status)} }
