// Package ledger is the memory of events that all pods share, in PostgreSQL. A [Ledger]
// implements [events.Ledger]: an event that any pod has received, or is receiving, is not
// received again by another.
//
// A receiver that is registered with [events.Transactional] finds a transaction in its
// context, see [Tx]. What it writes there is committed together with the record that the
// event was received, or not at all; so are the events that it sends, which wait in an outbox
// table until the sink has taken them.
//
// A claim has a lease by the database's clock, which the ledger renews while the receiver
// runs. A claim whose owner was killed can be claimed again once its lease has ended; an
// owner that lost its lease cannot settle.
//
// The ledger connects when it is first asked. It starts no goroutine before, and none that
// runs when nothing is asked of it. It uses lib/pq through database/sql, and of lib/pq only
// what needs no environment variable.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/internal/fault"
)

const (
	// maxRecord is the size of the largest record, in bytes. Larger ones would make the
	// table grow with the replies instead of the number of events.
	maxRecord = 64 << 10

	// refreshEvery is how often credentials that the database refused are asked for anew: a
	// wrong secret must not become a flood of requests to Vault.
	refreshEvery = time.Second

	// reserved is how many connections no transaction of a receiver may hold: one for the
	// outbox, and two so that claims, renewals, settling and checks go on while receivers
	// are slow.
	reserved = 3
)

// Credentials are a database user and its password.
type Credentials struct{ User, Password string }

// LogValue implements slog.LogValuer: neither is ever logged.
func (Credentials) LogValue() slog.Value { return slog.StringValue("redacted") }

// String implements fmt.Stringer: neither is ever printed.
func (Credentials) String() string { return "redacted" }

// GoString implements fmt.GoStringer.
func (Credentials) GoString() string { return "redacted" }

// Config is what a Ledger is made of.
type Config struct {
	// URL says where the database is: postgres://host:port/database?sslmode=…&sslrootcert=…,
	// without user and password. The port is 5432 and sslmode verify-full unless it says
	// otherwise.
	URL string

	// Credentials returns the user and the password. It is asked before each use of the
	// database, so it must answer from memory where it can. Refused are those that the
	// database refused last, the zero value for none: a source that has them in memory must
	// ask for others.
	Credentials func(ctx context.Context, refused Credentials) (Credentials, error)

	// Dynamic says that the credentials have an end. A user that will be dropped must own no
	// table: the ledger makes its tables only if the user has become another role at login.
	Dynamic bool

	App         string        // the function's name: each function has its own memory. "" stands for coffeebuddy
	Sender      events.Sender // sends what is in the outbox. Nil: there is no outbox
	Timeout     time.Duration // of one statement that claims, renews, settles or checks. 0 stands for 2 s
	Receiver    time.Duration // deadline of a receiver, and of a transaction without a statement. 0 stands for 10 s
	Sending     time.Duration // of one event of the outbox to Sender. 0 stands for 10 s, as long as package sink waits for a response
	Connections int           // at a time, to the database; receivers' transactions hold all but three of them. 0 stands for 10
	Log         *slog.Logger  // nil discards
}

// A Ledger remembers events in PostgreSQL.
type Ledger struct {
	config  Config
	where   where
	metrics *metrics

	transactions chan struct{} // holds one for each transaction of a receiver

	connecting chan struct{} // holds one while the fields below are in use
	pool       *pool         // nil before the first use
	refreshed  time.Time     // when credentials were asked for because the database had refused some
	dropped    time.Time     // when idle connections were closed because one was of no use
	prepared   bool          // the tables are there, and of this version
	closed     bool

	shown     atomic.Pointer[pool] // pool, for the metrics
	uses      atomic.Uint64        // claims, of which each sweepEvery-th sweeps
	sweeping  atomic.Bool
	disowning atomic.Int32 // claims whose response was lost, and which are given back
	outbox    outbox

	working sync.WaitGroup  // what goes on after a call has returned
	ended   context.Context //nolint:containedctx // it ends with the ledger
	end     context.CancelFunc
}

// New returns a Ledger. It connects to nothing.
func New(config Config) (*Ledger, error) {
	where, err := parse(config.URL)
	if err != nil {
		return nil, fmt.Errorf("make a ledger: %w", err)
	}
	if config.Credentials == nil {
		return nil, errors.New("make a ledger: Credentials is nil")
	}
	if config.App == "" {
		config.App = "coffeebuddy"
	}
	if config.Timeout == 0 {
		config.Timeout = 2 * time.Second
	}
	if config.Receiver == 0 {
		config.Receiver = 10 * time.Second
	}
	if config.Sending == 0 {
		config.Sending = 10 * time.Second
	}
	if config.Connections == 0 {
		config.Connections = 10
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{config: config, where: where, connecting: make(chan struct{}, 1)}
	l.transactions = make(chan struct{}, max(1, config.Connections-reserved))
	l.ended, l.end = context.WithCancel(context.Background())
	l.metrics = newMetrics(l)
	return l, nil
}

// Close waits until what goes on in the background has ended, such as sending what is in the
// outbox, but not longer than ctx, and closes the connections.
func (l *Ledger) Close(ctx context.Context) error {
	done := make(chan struct{})
	l.outbox.close()
	go func() {
		l.working.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	l.end()
	l.connecting <- struct{}{}
	defer func() { <-l.connecting }()
	l.closed = true
	if l.pool == nil {
		return nil
	}
	if err := l.pool.db.Close(); err != nil {
		return fmt.Errorf("close the ledger: %w", err)
	}
	return nil
}

// with calls f with the database. If the database refuses the credentials, f is called once
// more with new ones, if there are any. Errors are a [fault.Error].
func (l *Ledger) with(ctx context.Context, f func(context.Context, *sql.DB) error) error {
	for again := true; ; again = false {
		p, err := l.use(ctx)
		if err == nil {
			err = f(ctx, p.db)
		}
		if p != nil {
			p.users.Done()
		}
		if err == nil {
			return nil
		}
		problem := classify(err)
		switch {
		case isMissing(err):
			l.unprepare()
		case p != nil && (problem.Reason != fault.Unavailable || isReadOnly(err)):
			l.dropIdle(p)
		}
		// Another user would find the tables missing as well.
		if problem.Reason != fault.Denied || errors.Is(problem, errNoTables) || p == nil || !again || !l.refuse(ctx, p.credentials) {
			return problem
		}
	}
}

// use returns the pool with the credentials of the moment, once the tables are there. The
// caller gives it back, with an error as well, unless it is nil.
func (l *Ledger) use(ctx context.Context) (*pool, error) {
	if err := l.lock(ctx); err != nil {
		return nil, err
	}
	defer l.unlock()
	if l.closed {
		return nil, fault.New(fault.Unavailable, "the ledger is closed")
	}
	credentials, err := l.config.Credentials(ctx, Credentials{})
	switch {
	case err != nil && (l.pool == nil || !l.prepared):
		return nil, fmt.Errorf("ask for the ledger's credentials: %w", err)
	case err != nil: // those that there are may do
	case l.pool == nil || credentials != l.pool.credentials:
		l.connect(credentials)
	}
	l.pool.users.Add(1)
	if !l.prepared {
		if err := l.prepare(ctx, l.pool.db); err != nil {
			return l.pool, err
		}
		l.prepared = true
	}
	return l.pool, nil
}

// A pool is of connections with the same credentials.
type pool struct {
	db          *sql.DB
	credentials Credentials
	users       sync.WaitGroup
}

// connect replaces the pool by one with other credentials. The old one is closed when its
// users are done. Its connections that hold a transaction are closed when that ends.
func (l *Ledger) connect(credentials Credentials) {
	old := l.pool
	l.pool = &pool{db: l.open(credentials), credentials: credentials}
	l.shown.Store(l.pool)
	if old == nil {
		return
	}
	l.metrics.rotations.Add(1)
	l.working.Go(func() {
		old.users.Wait()
		_ = old.db.Close()
	})
}

// refuse asks for other credentials than those that the database has refused, and reports
// whether there are any.
func (l *Ledger) refuse(ctx context.Context, refused Credentials) bool {
	if l.lock(ctx) != nil {
		return false
	}
	defer l.unlock()
	switch {
	case l.closed:
		return false
	case refused != l.pool.credentials:
		return true // another caller was faster
	case time.Since(l.refreshed) < refreshEvery:
		return false
	}
	l.refreshed = time.Now()
	credentials, err := l.config.Credentials(ctx, refused)
	if err != nil || credentials == refused {
		return false
	}
	l.connect(credentials)
	return true
}

// dropIdle closes the connections that are not in use, after one has failed: they may lead to a
// server that does not answer or is not the primary any more, and they keep the settings that
// their user had at login. One pod does so once a second at most.
func (l *Ledger) dropIdle(p *pool) {
	if l.lock(l.ended) != nil {
		return
	}
	defer l.unlock()
	if now := time.Now(); now.Sub(l.dropped) >= refreshEvery {
		l.dropped = now
		p.db.SetMaxIdleConns(-1)
		p.db.SetMaxIdleConns(l.config.Connections)
	}
}

// unprepare has the next use look for the tables.
func (l *Ledger) unprepare() {
	if l.lock(l.ended) == nil {
		l.prepared = false
		l.unlock()
	}
}

func (l *Ledger) lock(ctx context.Context) error {
	select {
	case l.connecting <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the ledger's connection: %w", ctx.Err())
	}
}

func (l *Ledger) unlock() { <-l.connecting }

// bounded returns a context with the values of ctx and the deadline of one statement. A
// receiver whose sender has left still settles.
func (l *Ledger) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), l.config.Timeout)
}

// parse reads the URL of a database. Its errors do not quote it.
func parse(text string) (where, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "":
		return where{}, errors.New("the URL is not postgres://host:port/database")
	case u.User != nil:
		return where{}, errors.New("the URL has a user or a password, which belong in Vault")
	}
	return whereOf(u)
}
