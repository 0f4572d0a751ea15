package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/internal/fault"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A Transaction is what a receiver may do with the transaction of its event. It is what
// *sql.Tx can do but commit and roll back, and what sqlc calls DBTX. Parameters of type []byte
// are sent in binary: pass JSON as a string.
type Transaction interface {
	ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row
}

// Tx returns the transaction of the event that is being received with ctx. It begins at the
// first call. What is written with it is committed when the receiver has accepted the event,
// together with the record of that, and rolled back in any other case: if the receiver returns
// an error or panics, if its deadline passes or its pod dies. So it takes effect exactly once.
//
// Without a transaction the error is [events.ErrNoTransaction]: the receiver was not
// registered with [events.Transactional], or is done. Tasks that it starts and receivers of
// events that it dispatches have no part in its transaction.
func Tx(ctx context.Context) (Transaction, error) {
	t, ok := events.SenderOf(ctx).(*transaction)
	if !ok {
		return nil, events.ErrNoTransaction
	}
	return t.begin()
}

// A transaction is begun when it is first asked for, so that a receiver that writes nothing
// costs no round trip.
type transaction struct {
	claim *claim
	ctx   context.Context //nolint:containedctx // it is the receiver's, and the transaction ends with it

	mu    sync.Mutex
	tx    *sql.Tx
	over  bool
	leave func() // gives the slot back; it may be called again

	outbox atomic.Bool // events were written to the outbox
}

// context returns the receiver's context with the transaction.
func (t *transaction) context(ctx context.Context) context.Context {
	t.ctx = ctx
	return events.WithSender(ctx, t)
}

func (t *transaction) begin() (*sql.Tx, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil, events.ErrNoTransaction
	}
	if t.tx != nil {
		return t.tx, nil
	}
	if err := t.enter(); err != nil {
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	l := t.claim.ledger
	err := l.with(t.ctx, func(ctx context.Context, db *sql.DB) (err error) {
		if t.tx, err = db.BeginTx(ctx, nil); err != nil {
			return err
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) > l.config.Receiver {
			if err = limit(ctx, t.tx, time.Until(deadline)+transactionMargin); err != nil {
				_ = t.tx.Rollback()
			}
		}
		return err
	})
	if err != nil {
		t.tx = nil
		t.leave()
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	return t.tx, nil
}

// limit has the server end a transaction that is without a statement for so long, or in one.
func limit(ctx context.Context, tx *sql.Tx, after time.Duration) error {
	_, err := tx.ExecContext(ctx, `
		SELECT set_config('idle_in_transaction_session_timeout', $1, true), set_config('statement_timeout', $1, true)`, milliseconds(after))
	return err
}

// enter waits for a slot, which is free again when the receiver's context has ended, if
// nothing ends the transaction before.
func (t *transaction) enter() error {
	slots := t.claim.ledger.transactions
	select {
	case slots <- struct{}{}:
	case <-t.ctx.Done():
		return fault.New(fault.Timeout, "no connection was free before the receiver's deadline")
	}
	leave := sync.OnceFunc(func() { <-slots })
	stop := context.AfterFunc(t.ctx, leave)
	t.leave = func() { stop(); leave() }
	return nil
}

// Send implements [events.Sender]: the event is sent once the transaction is committed, and
// never if it is not.
func (t *transaction) Send(ctx context.Context, e event.Event) error {
	l := t.claim.ledger
	if l.config.Sender == nil {
		return events.ErrNoSink
	}
	tx, err := t.begin()
	if errors.Is(err, events.ErrNoTransaction) {
		return l.config.Sender.Send(ctx, e) // a goroutine that goes on after the receiver
	}
	if err != nil {
		return err
	}
	t.outbox.Store(true) // before it may be committed by the receiver's return
	_, err = tx.ExecContext(ctx, `INSERT INTO coffeebuddy_outbox (app, source, event) VALUES ($1, $2, $3)`,
		l.config.App, e.Source(), events.AppendEvent(nil, e))
	if err != nil {
		return fmt.Errorf("write an event to the outbox: %w", classify(err))
	}
	return nil
}

// settle settles the claim in the transaction, if that was begun, and commits.
func (t *transaction) settle(ctx context.Context, record []byte) (begun bool, err error) {
	t.mu.Lock()
	t.over = true
	tx := t.tx
	t.mu.Unlock()
	if tx == nil {
		return false, nil
	}
	defer t.leave()
	c, l := t.claim, t.claim.ledger
	defer l.metrics.observe(operationCommit, time.Now())
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	result, err := tx.ExecContext(ctx, settleStatement, c.key, c.owner, record, c.request.Keep.Seconds())
	if err != nil {
		l.metrics.count(failed)
		return true, fmt.Errorf("settle a claim in its transaction: %w", t.problem(err))
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		l.metrics.count(lost)
		return true, events.ErrLost
	}
	if err := tx.Commit(); err != nil {
		l.metrics.count(failed)
		return true, fmt.Errorf("commit a transaction: %w", t.problem(err))
	}
	if t.outbox.Load() {
		l.drain()
	}
	return true, nil
}

// problem returns why a transaction failed. One that the end of its context has rolled back
// says only that it is done.
func (t *transaction) problem(err error) error {
	if errors.Is(err, sql.ErrTxDone) && t.ctx.Err() != nil {
		return fault.New(fault.Timeout, "the receiver's deadline passed, or its claim was lost")
	}
	return classify(err)
}

func (t *transaction) rollback() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.tx != nil {
		_ = t.tx.Rollback()
		t.leave()
	}
}
