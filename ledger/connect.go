package ledger

import (
	"context"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"coffeebuddy/internal/fault"

	"github.com/lib/pq"
)

const (
	// idleTime is how long a connection that is not in use stays open.
	idleTime = time.Minute

	// cancelGrace is how long a statement whose context has ended may take to be cancelled by
	// the server, before its connection is cut.
	cancelGrace = 250 * time.Millisecond

	// transactionMargin is how much longer than its receiver's deadline the server keeps a
	// transaction that nothing is heard of.
	transactionMargin = 5 * time.Second
)

// where says where a database is, and how it is connected to.
type where struct {
	host, database, sslmode, sslrootcert string
	port                                 uint16
}

func whereOf(u *url.URL) (where, error) {
	w := where{
		host: u.Hostname(), port: 5432, database: strings.TrimPrefix(u.Path, "/"),
		sslmode: u.Query().Get("sslmode"), sslrootcert: u.Query().Get("sslrootcert"),
	}
	if w.database == "" {
		return where{}, errors.New("the URL names no database")
	}
	if text := u.Port(); text != "" {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return where{}, errors.New("the URL's port is not one")
		}
		w.port = uint16(port)
	}
	if w.sslmode == "" {
		w.sslmode = "verify-full"
	}
	if w.sslrootcert == "" {
		w.sslrootcert = "system" // and no file of the home directory
	}
	switch w.sslmode {
	case "disable", "require", "verify-ca", "verify-full":
		return w, nil
	}
	return where{}, errors.New("the URL's sslmode is not disable, require, verify-ca or verify-full")
}

// authorities reports whether the file of sslrootcert has certificates. lib/pq says of one that
// has none what it says of a server that it does not trust.
func (w where) authorities() error {
	if w.sslmode == "disable" || w.sslrootcert == "system" {
		return nil
	}
	text, err := os.ReadFile(w.sslrootcert)
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(text) {
		return fault.New(fault.Misconfigured, "the file of sslrootcert cannot be used")
	}
	return nil
}

// open returns a pool. It connects when it is used.
func (l *Ledger) open(credentials Credentials) *sql.DB {
	db := sql.OpenDB(connector{l, credentials})
	db.SetMaxOpenConns(l.config.Connections)
	db.SetMaxIdleConns(l.config.Connections)
	db.SetConnMaxIdleTime(idleTime)
	return db
}

// A connector connects with one pair of credentials.
type connector struct {
	ledger      *Ledger
	credentials Credentials
}

// Connect implements driver.Connector. lib/pq panics at some responses that no PostgreSQL
// gives, and database/sql connects on a goroutine that has no caller to recover for it.
func (c connector) Connect(ctx context.Context) (conn driver.Conn, err error) {
	defer func() {
		if recover() != nil {
			conn, err = nil, errNotPostgreSQL
		}
	}()
	l := c.ledger
	if err := l.where.authorities(); err != nil {
		return nil, err
	}
	connector, err := pq.NewConnectorConfig(pq.Config{
		Host: l.where.host, Port: l.where.port, Database: l.where.database,
		User: c.credentials.User, Password: c.credentials.Password,
		SSLMode: pq.SSLMode(l.where.sslmode), SSLRootCert: l.where.sslrootcert, SSLSNI: true,
		ApplicationName:  l.config.App,
		ConnectTimeout:   l.config.Timeout,
		BinaryParameters: true, // one round trip for a statement with parameters
		Runtime: map[string]string{
			// What a pod that was killed, or cut off, leaves behind holds its locks no longer.
			"idle_in_transaction_session_timeout": milliseconds(l.config.Receiver + transactionMargin),
			"statement_timeout":                   milliseconds(l.config.Receiver + transactionMargin),
		},
	})
	if err != nil {
		return nil, err
	}
	d := &dialer{tls: l.where.sslmode != "disable"}
	connector.Dialer(d)
	connected, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	s, ok := connected.(session)
	if !ok {
		_ = connected.Close()
		return nil, errors.New("lib/pq's connections are not what they were")
	}
	return &guarded{s, d, l.config.Timeout}, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Driver implements driver.Connector.
func (connector) Driver() driver.Driver { return pq.Driver{} }

// A session is what a connection of lib/pq's can do for database/sql.
type session interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// A guarded connection begins transactions within the time of a statement. lib/pq waits for the
// response to BEGIN whatever becomes of its context: for ever, where the network is cut.
type guarded struct {
	session

	dialer  *dialer
	timeout time.Duration
}

// BeginTx implements driver.ConnBeginTx. Nothing is lost if BEGIN is repeated, so database/sql
// is to take another connection.
func (g *guarded) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	timer := time.AfterFunc(g.timeout, func() { g.dialer.cut(0) })
	stop := context.AfterFunc(ctx, func() { g.dialer.cut(0) })
	tx, err := g.session.BeginTx(ctx, options)
	if inTime, awaited := timer.Stop(), stop(); !inTime || !awaited {
		return nil, driver.ErrBadConn
	}
	return tx, err
}

// A dialer is of one connection of lib/pq's. When the context of a statement ends, lib/pq
// dials once more, to ask the server to cancel it, and goes on waiting for the server on the
// first connection: for ever, if the network is cut. So the second call gives the first
// connection a deadline.
type dialer struct {
	tls    bool
	dialer net.Dialer
	first  atomic.Pointer[net.Conn]
}

// DialContext implements pq.DialerContext.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if d.cut(cancelGrace) {
		return d.dialer.DialContext(ctx, network, address)
	}
	conn, err := d.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.first.Store(&conn)
	return &greeted{Conn: conn, tls: d.tls}, nil
}

// cut gives the first connection a deadline, and reports whether there is one.
func (d *dialer) cut(after time.Duration) bool {
	first := d.first.Load()
	if first != nil {
		_ = (*first).SetDeadline(time.Now().Add(after)) // that it was closed is fine, too
	}
	return first != nil
}

// A greeted connection fails at the first byte if that is not PostgreSQL's. lib/pq would take
// what follows for a length, and allocate as much.
type greeted struct {
	net.Conn

	tls, read bool
}

// Read implements net.Conn.
func (g *greeted) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if n > 0 && !g.read {
		g.read = true
		first := "REvN" // authentication, error, protocol version, notice
		if g.tls {
			first = "SNE" // TLS, no TLS, error
		}
		if !strings.Contains(first, string(b[:1])) {
			return 0, errNotPostgreSQL
		}
	}
	return n, err
}

// Dial implements pq.Dialer. lib/pq calls DialContext in its stead.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout implements pq.Dialer.
func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}
