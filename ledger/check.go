package ledger

import (
	"context"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"coffeebuddy/internal/fault"

	"github.com/lib/pq"
)

// Name returns "ledger".
func (l *Ledger) Name() string { return "ledger" }

// Check asks whether events can be claimed: the database is there and may be written to, and
// the tables are there, of this version, and may be used. It makes them if they are missing and
// may be made. It also looks at the outbox, and starts to send what another pod has left there.
func (l *Ledger) Check(ctx context.Context) error {
	defer l.metrics.observe(operationCheck, time.Now())
	length := 0
	err := l.with(ctx, func(ctx context.Context, db *sql.DB) error {
		s, err := look(ctx, db)
		if err != nil {
			return err
		}
		if err := s.verdict(); err != nil {
			if !s.readOnly {
				l.unprepare() // and claim nothing in tables that it does not know
			}
			return err
		}
		length, err = l.measureOutbox(ctx, db)
		return err
	})
	if err != nil {
		return err
	}
	if length > 0 {
		l.drain()
	}
	return nil
}

const notPostgreSQL = "not PostgreSQL's answer"

var errNotPostgreSQL = fault.New(fault.BadResponse, notPostgreSQL)

// classify is the one place where an error of the database becomes a reason. It reads types
// and codes: a server's text may quote what it was sent.
func classify(err error) *fault.Error {
	var (
		known     *fault.Error
		answered  *pq.Error
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &answered):
		return ofServer(answered)
	case errors.Is(err, pq.ErrSSLNotSupported):
		return &fault.Error{Reason: fault.TLS, Detail: "the server has no TLS"}
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return fault.Handshake(err)
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone):
		return &fault.Error{Reason: fault.Refused, Detail: "the connection broke"}
	case errors.Is(err, sql.ErrTxDone):
		return &fault.Error{Reason: fault.Refused, Detail: "the transaction has ended"}
	}
	if e := fault.Of(err); e.Reason != fault.BadResponse {
		return e
	}
	return &fault.Error{Reason: fault.BadResponse, Detail: notPostgreSQL}
}

// ofServer classifies what PostgreSQL says, by its SQLSTATE. The code is the server's own, and
// the detail has it because runbooks begin with it.
func ofServer(err *pq.Error) *fault.Error {
	code := string(err.Code)
	detail := func(text string) string { return text + " (SQLSTATE " + printable(code) + ")" }
	switch {
	case code == "57014": // query_canceled
		return &fault.Error{Reason: fault.Timeout, Detail: detail("the statement took too long")}
	case code == "42501" || code[:min(2, len(code))] == "28": // insufficient_privilege, invalid_authorization_specification
		return &fault.Error{Reason: fault.Denied, Detail: detail("the database refuses the user")}
	case code == "3D000": // invalid_catalog_name
		return &fault.Error{Reason: fault.Misconfigured, Detail: detail("there is no such database")}
	case code == "25006": // read_only_sql_transaction
		return &fault.Error{Reason: fault.Unavailable, Detail: detail("the database is read-only")}
	}
	switch code[:min(2, len(code))] {
	case "53": // insufficient_resources: too many connections, disk full, out of memory
		return &fault.Error{Reason: fault.Unavailable, Detail: detail("the database has no room")}
	case "57", "58", "08": // operator_intervention: starting up, shutting down; system_error; connection_exception
		return &fault.Error{Reason: fault.Unavailable, Detail: detail("the database cannot serve now")}
	case "42", "22", "23": // syntax or access rule: no such table or column
		return &fault.Error{Reason: fault.BadResponse, Detail: detail("the tables are not this function's")}
	}
	return &fault.Error{Reason: fault.Unavailable, Detail: detail("the database could not run a statement")}
}

// printable returns a SQLSTATE, which a server that is none could fill with anything.
func printable(code string) string {
	for _, c := range code {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return "?"
		}
	}
	return code[:min(5, len(code))]
}

// isMissing reports whether an error says that there is no such table: it was dropped.
func isMissing(err error) bool {
	answered, ok := errors.AsType[*pq.Error](err)
	return ok && answered.Code == "42P01"
}

// isReadOnly reports whether an error says that the server takes no writes: a standby, or what
// was the primary before a failover.
func isReadOnly(err error) bool {
	answered, ok := errors.AsType[*pq.Error](err)
	return errors.Is(err, errReadOnly) || ok && answered.Code == "25006"
}
