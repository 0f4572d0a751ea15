package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/internal/fault"
)

// settlePause is the pause between attempts to settle that failed.
const settlePause = 250 * time.Millisecond

// claimStatement inserts a claim, or takes over one whose lease, or whose record, has ended.
// Else it returns the record, and nothing while the event is being received: a row that was
// committed after the statement began is not seen, and may be either.
//
// A claim of the same owner is taken over as well: then an attempt whose response was lost is
// made again.
const claimStatement = `
	WITH claimed AS (
		INSERT INTO coffeebuddy_ledger AS l (key, owner, data, until, sweep)
		VALUES ($1, $2, $3,
			clock_timestamp() + $4::float8 * interval '1 second',
			clock_timestamp() + $5::float8 * interval '1 second')
		ON CONFLICT (key) DO UPDATE
		SET owner = excluded.owner, data = excluded.data, until = excluded.until, sweep = excluded.sweep, record = NULL
		WHERE l.until <= clock_timestamp() OR l.owner = excluded.owner AND l.record IS NULL
		RETURNING 1
	)
	SELECT NULL::bytea, NULL::bytea FROM claimed
	UNION ALL
	SELECT data, record FROM coffeebuddy_ledger
	WHERE key = $1 AND record IS NOT NULL AND until > clock_timestamp() AND NOT EXISTS (SELECT FROM claimed)`

const (
	renewStatement = `
		UPDATE coffeebuddy_ledger SET until = clock_timestamp() + $3::float8 * interval '1 second'
		WHERE key = $1 AND owner = $2 AND record IS NULL`
	settleStatement = `
		UPDATE coffeebuddy_ledger SET record = $3, until = clock_timestamp() + $4::float8 * interval '1 second'
		WHERE key = $1 AND owner = $2`
	releaseStatement = `
		DELETE FROM coffeebuddy_ledger WHERE key = $1 AND owner = $2 AND record IS NULL`
)

// Claim implements [events.Ledger]: one statement and one round trip.
func (l *Ledger) Claim(ctx context.Context, r events.Request) (events.Claim, error) {
	began := time.Now()
	c, err := l.claim(ctx, r)
	l.metrics.observe(operationClaim, began)
	switch answered := (*events.Answered)(nil); {
	case err == nil:
		l.metrics.count(claimed)
		l.used(ctx)
		return c, nil
	case errors.As(err, &answered):
		l.metrics.count(answeredBefore)
	case errors.Is(err, events.ErrRunning):
		l.metrics.count(running)
	case errors.Is(err, events.ErrMismatch):
		l.metrics.count(mismatch)
	default:
		l.metrics.count(failed)
	}
	return nil, err
}

func (l *Ledger) claim(ctx context.Context, r events.Request) (*claim, error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.Timeout)
	defer cancel()
	key := events.KeyOf(l.config.App, string(r.Key[:]))
	c := &claim{ledger: l, request: r, key: key[:], owner: make([]byte, 16), until: time.Now().Add(r.Lease)}
	_, _ = rand.Read(c.owner) // it never fails
	a, err := c.ask(ctx)
	switch {
	case err != nil:
		if a.sent {
			c.disown()
		}
		return nil, fmt.Errorf("claim an event: %w", err)
	case a.running:
		return nil, events.ErrRunning
	case a.data == nil:
		c.renewal = time.AfterFunc(r.Lease/3, c.renew)
		return c, nil
	case !bytes.Equal(a.data, r.Data[:]):
		return nil, events.ErrMismatch
	}
	return nil, &events.Answered{Record: a.record}
}

// An answer is what the database says to a claim.
type answer struct {
	sent         bool   // the statement may have come there
	running      bool   // another owner has the claim
	data, record []byte // of the event, if it was received
}

func (c *claim) ask(ctx context.Context) (a answer, err error) {
	r := c.request
	err = c.ledger.with(ctx, func(ctx context.Context, db *sql.DB) error {
		a.sent = true
		err := db.QueryRowContext(ctx, claimStatement, c.key, c.owner, r.Data[:], r.Lease.Seconds(), (r.Lease+r.Keep).Seconds()).Scan(&a.data, &a.record)
		if a.running = errors.Is(err, sql.ErrNoRows); a.running {
			return nil
		}
		return err
	})
	return a, err
}

// maxDisowned is how many claims are disowned at a time. Others end with their leases.
const maxDisowned = 16

// disown gives back, in the background, a claim whose response was lost: it may have been
// committed, or may still be. The same owner claims it once more, which waits for that, and then
// releases it.
func (c *claim) disown() {
	l := c.ledger
	if l.disowning.Add(1) > maxDisowned {
		l.disowning.Add(-1)
		return
	}
	go func() { // Close does not wait for it
		defer l.disowning.Add(-1)
		c.untilItEnds(0, func(ctx context.Context) error {
			a, err := c.ask(ctx)
			if err == nil && !a.running && a.data == nil {
				_, err = l.change(ctx, operationSettle, releaseStatement, c.key, c.owner)
			}
			return err
		})
	}()
}

// untilItEnds calls f after a pause, and until it succeeds, while the lease lasts. It reports
// whether f has.
func (c *claim) untilItEnds(first time.Duration, f func(context.Context) error) bool {
	l := c.ledger
	pause := time.NewTimer(first)
	defer pause.Stop()
	for time.Now().Before(c.until) {
		select {
		case <-pause.C:
		case <-l.ended.Done():
			return false
		}
		ctx, cancel := context.WithTimeout(l.ended, l.config.Timeout)
		err := f(ctx)
		cancel()
		if err == nil {
			return true
		}
		pause.Reset(settlePause)
	}
	return false
}

// A claim is held until it is settled, released or lost.
type claim struct {
	ledger     *Ledger
	request    events.Request
	key, owner []byte

	mu      sync.Mutex
	until   time.Time // when the lease ends, at the earliest, by this process' clock
	renewal *time.Timer
	over    bool // it is no longer to be renewed
	tx      *transaction
}

// Context implements [events.Claim].
func (c *claim) Context(ctx context.Context) context.Context {
	if !c.request.Transactional {
		return ctx
	}
	c.tx = &transaction{claim: c}
	return c.tx.context(ctx)
}

// renew is called by the timer at each third of the lease.
func (c *claim) renew() {
	l := c.ledger
	ctx, cancel := context.WithTimeout(l.ended, l.config.Timeout)
	defer cancel()
	began := time.Now()
	held, err := l.change(ctx, operationRenew, renewStatement, c.key, c.owner, c.request.Lease.Seconds())
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over:
		return
	case err == nil && held:
		c.until = began.Add(c.request.Lease)
	case err == nil:
		c.over = true
		l.metrics.count(lost)
		if c.request.Lost != nil {
			go c.request.Lost() // it may settle
		}
		return
	case l.ended.Err() != nil:
		return
	}
	c.renewal.Reset(c.request.Lease / 3)
}

// stop ends the renewal.
func (c *claim) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.renewal.Stop()
}

// Settle implements [events.Claim]. If the database is away, attempts go on in the background
// until the lease ends, and Settle returns the error of the first. With a transaction there is
// one attempt, and any error of Settle but [events.ErrTooLarge] means that nothing was
// committed, or that it is not known, in which case the next claim tells.
func (c *claim) Settle(ctx context.Context, record []byte) error {
	if len(record) > maxRecord {
		return events.ErrTooLarge
	}
	if record == nil {
		record = []byte{} // NULL stands for a claim that is held
	}
	c.stop()
	l := c.ledger
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	if c.tx != nil {
		if begun, err := c.tx.settle(ctx, record); begun {
			if err != nil && !errors.Is(err, events.ErrLost) {
				_ = c.release(ctx) // of what was rolled back; what was committed has a record, and stays
			}
			return err
		}
	}
	held, err := c.settle(ctx, record)
	switch {
	case err == nil && !held:
		l.metrics.count(lost)
		return events.ErrLost
	case err == nil:
		return nil
	}
	l.metrics.count(failed)
	l.working.Go(func() { c.settleLater(record) })
	return fmt.Errorf("settle a claim: %w", err)
}

func (c *claim) settle(ctx context.Context, record []byte) (held bool, err error) {
	return c.ledger.change(ctx, operationSettle, settleStatement, c.key, c.owner, record, c.request.Keep.Seconds())
}

// settleLater settles a claim while its lease lasts.
func (c *claim) settleLater(record []byte) {
	l := c.ledger
	settled := c.untilItEnds(settlePause, func(ctx context.Context) error {
		_, err := c.settle(ctx, record)
		return err
	})
	if !settled && l.ended.Err() == nil {
		l.config.Log.LogAttrs(l.ended, slog.LevelWarn, "an event was received and could not be remembered: a duplicate would be received again")
	}
}

// Release implements [events.Claim].
func (c *claim) Release(ctx context.Context) error {
	c.stop()
	if c.tx != nil {
		c.tx.rollback()
	}
	return c.release(ctx)
}

func (c *claim) release(ctx context.Context) error {
	l := c.ledger
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	if _, err := l.change(ctx, operationSettle, releaseStatement, c.key, c.owner); err != nil {
		l.metrics.count(failed)
		return fmt.Errorf("release a claim: %w", err)
	}
	return nil
}

// change runs a statement on the row of a claim, and reports whether there was one.
func (l *Ledger) change(ctx context.Context, o operation, statement string, arguments ...any) (found bool, err error) {
	defer l.metrics.observe(o, time.Now())
	err = l.with(ctx, func(ctx context.Context, db *sql.DB) error {
		result, err := db.ExecContext(ctx, statement, arguments...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		found = n > 0
		return err
	})
	return found, err
}

const (
	sweepEvery = 64  // claims
	sweepRows  = 256 // at a time, more than are claimed meanwhile
)

// sweepStatement deletes rows that have ended. Two pods that sweep at a time share them. Unlike
// clock_timestamp(), statement_timestamp() can be looked up in an index, and so can an array,
// whatever the planner knows of the table: nothing is read that has not ended.
const sweepStatement = `
	DELETE FROM coffeebuddy_ledger WHERE key = ANY(ARRAY(
		SELECT key FROM coffeebuddy_ledger WHERE sweep <= statement_timestamp() AND until <= statement_timestamp()
		ORDER BY sweep LIMIT $1 FOR UPDATE SKIP LOCKED))`

// used sweeps at each sweepEvery-th claim, beside it: nothing is swept when nothing is claimed.
func (l *Ledger) used(ctx context.Context) {
	if l.uses.Add(1)%sweepEvery != 0 || !l.sweeping.CompareAndSwap(false, true) {
		return
	}
	l.working.Go(func() {
		defer l.sweeping.Store(false)
		ctx, cancel := l.bounded(ctx)
		defer cancel()
		if _, err := l.change(ctx, operationSweep, sweepStatement, sweepRows); err != nil {
			l.config.Log.LogAttrs(ctx, slog.LevelWarn, "the ledger could not be swept", slog.String("reason", string(fault.ReasonOf(err))))
		}
	})
}
