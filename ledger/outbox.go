package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/internal/fault"

	"github.com/cloudevents/sdk-go/v2/event"
)

const (
	drainRows    = 100     // events at a time, with
	drainBytes   = 4 << 20 // of memory for all but the first
	drainSources = 8       // that are sent to at a time
	drainTimeout = 10 * time.Second

	// The pause after a batch that could not be sent grows from drainPause to drainPauseMax.
	drainPause    = 250 * time.Millisecond
	drainPauseMax = 30 * time.Second
)

// An outbox is what this process knows of the events that wait to be sent, and its work on
// them: one goroutine, as long as there are any.
type outbox struct {
	mu       sync.Mutex
	draining bool
	again    bool // something was written since the last look
	closing  chan struct{}
	closed   bool

	length, refused int
	oldest          time.Time // when the oldest was written, by the clock of this process
}

// close has the work end that waits for the sink to come back.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing == nil {
		o.closing = make(chan struct{})
	}
	if !o.closed {
		o.closed = true
		close(o.closing)
	}
}

// drain starts to send what is in the outbox, unless this process does already.
func (l *Ledger) drain() {
	o := &l.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	o.again = true
	if o.draining || o.closed || l.config.Sender == nil {
		return
	}
	if o.closing == nil {
		o.closing = make(chan struct{})
	}
	o.draining = true
	l.working.Go(func() { l.drainAll(o.closing) })
}

// drainAll sends until nothing is left, by this pod or another one.
func (l *Ledger) drainAll(closing <-chan struct{}) {
	o := &l.outbox
	wait := time.NewTimer(0)
	defer wait.Stop()
	pause := drainPause
	for last := false; !last; {
		select {
		case <-wait.C:
		case <-closing:
			last = true // one attempt more
		}
		o.mu.Lock()
		o.again = false
		o.mu.Unlock()
		b, err := l.drainBatch()
		if err != nil {
			l.config.Log.LogAttrs(l.ended, slog.LevelWarn, "the outbox could not be drained", slog.String("reason", string(fault.ReasonOf(err))))
		}
		o.mu.Lock()
		if done := err == nil && b.left == 0 && !o.again; done || last || l.ended.Err() != nil {
			o.draining = false
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		if err == nil && b.sent > 0 {
			pause = 0 // it goes forward
		}
		wait.Reset(pause)
		pause = min(max(2*pause, drainPause), drainPauseMax)
	}
	o.mu.Lock()
	o.draining = false
	o.mu.Unlock()
}

// A batch is what became of some events of the outbox.
type batch struct {
	sent int // or refused by the sink
	left int
}

// An entry is one event of the outbox.
type entry struct {
	id     int64
	source string
	event  event.Event
}

// drainBatch sends the oldest events, if no other pod does so at this time. Events of a
// source are sent one after the other; once one could not be sent, those behind it wait.
func (l *Ledger) drainBatch() (batch, error) {
	ctx, cancel := context.WithTimeout(l.ended, drainTimeout)
	defer cancel()
	var b batch
	err := l.with(ctx, func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		var mine bool
		if err := tx.QueryRowContext(ctx, `SELECT pg_try_advisory_xact_lock($1, $2)`, locks, l.outboxLock()).Scan(&mine); err != nil {
			return err
		}
		if mine {
			entries, err := l.next(ctx, tx)
			if err != nil {
				return err
			}
			sent, refused := l.sendAll(ctx, entries)
			b.sent = len(sent) + len(refused)
			if err := l.settleOutbox(ctx, tx, sent, refused); err != nil {
				return err
			}
		}
		if b.left, err = l.measureOutbox(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err != nil {
		return batch{}, fmt.Errorf("drain the outbox: %w", err)
	}
	return b, nil
}

// outboxLock is the second number of the advisory lock on the outbox of one function.
func (l *Ledger) outboxLock() int32 {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(l.config.App))
	return int32(hash.Sum32() | 1) //nolint:gosec // any number but schemaLock will do
}

// next returns the oldest entries.
func (l *Ledger) next(ctx context.Context, tx *sql.Tx) ([]entry, error) {
	rows, err := tx.QueryContext(ctx, `
		SELECT id, source, event FROM (
			SELECT id, source, event, sum(octet_length(event)) OVER (ORDER BY id) AS bytes, row_number() OVER (ORDER BY id) AS n
			FROM (SELECT id, source, event FROM coffeebuddy_outbox WHERE app = $1 AND refused IS NULL ORDER BY id LIMIT $2) oldest
		) measured WHERE n = 1 OR bytes <= $3 ORDER BY id`, l.config.App, drainRows, drainBytes)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what was wrong
	var entries []entry
	for rows.Next() {
		var e entry
		var encoded []byte
		if err := rows.Scan(&e.id, &e.source, &encoded); err != nil {
			return nil, err
		}
		if e.event, err = events.ReadEvent(encoded); err != nil {
			return nil, fault.New(fault.BadResponse, "an event of the outbox was written by another version")
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// sendAll sends entries, and returns the ids of those that the sink took, and of those that it
// refused for good.
func (l *Ledger) sendAll(ctx context.Context, entries []entry) (sent, refused []int64) {
	bySource := make(map[string][]entry)
	var sources []string
	for _, e := range entries {
		if bySource[e.source] == nil {
			sources = append(sources, e.source)
		}
		bySource[e.source] = append(bySource[e.source], e)
	}
	var (
		mu    sync.Mutex
		all   sync.WaitGroup
		slots = make(chan struct{}, drainSources)
	)
	for _, source := range sources {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			for _, e := range bySource[source] {
				err := l.config.Sender.Send(ctx, e.event)
				mu.Lock()
				switch {
				case err == nil:
					sent = append(sent, e.id)
				case events.Refusal(ctx, err).Outcome == events.Rejected:
					refused = append(refused, e.id)
				default:
					mu.Unlock()
					return
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return sent, refused
}

// settleOutbox deletes what was sent, and sets aside what was refused.
func (l *Ledger) settleOutbox(ctx context.Context, tx *sql.Tx, sent, refused []int64) error {
	if len(sent) > 0 {
		if _, err := tx.ExecContext(ctx, `DELETE FROM coffeebuddy_outbox WHERE id = ANY($1::bigint[])`, array(sent)); err != nil {
			return err
		}
	}
	if len(refused) > 0 {
		l.config.Log.LogAttrs(ctx, slog.LevelError, "the sink refused events of the outbox for good: they are set aside", slog.Int("events", len(refused)))
		if _, err := tx.ExecContext(ctx, `UPDATE coffeebuddy_outbox SET refused = clock_timestamp() WHERE id = ANY($1::bigint[])`, array(refused)); err != nil {
			return err
		}
	}
	return nil
}

// countedAtMost is how many events of the outbox are counted.
const countedAtMost = 10_000

// querier is a pool or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row
}

// measureOutbox returns how many events wait, at most countedAtMost, and keeps it for the
// metrics.
func (l *Ledger) measureOutbox(ctx context.Context, from querier) (length int, err error) {
	var age float64
	var refused int
	err = from.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM (SELECT FROM coffeebuddy_outbox WHERE app = $1 AND refused IS NULL LIMIT $2) waiting),
		       coalesce((SELECT extract(epoch FROM clock_timestamp() - written)::float8 FROM coffeebuddy_outbox
		                 WHERE app = $1 AND refused IS NULL ORDER BY id LIMIT 1), 0),
		       (SELECT count(*) FROM (SELECT FROM coffeebuddy_outbox WHERE app = $1 AND refused IS NOT NULL LIMIT $2) refused)`,
		l.config.App, countedAtMost).Scan(&length, &age, &refused)
	if err != nil {
		return 0, err
	}
	o := &l.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	o.length, o.refused, o.oldest = length, refused, time.Time{}
	if length > 0 {
		o.oldest = time.Now().Add(-time.Duration(age * float64(time.Second)))
	}
	return length, nil
}

// array returns the text of an array of PostgreSQL's.
func array(ids []int64) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatInt(id, 10)
	}
	return "{" + strings.Join(texts, ",") + "}"
}
