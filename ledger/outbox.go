package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
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
	drainSources = 8       // that are sent from at a time

	// The pause after a batch that could not be sent grows from drainPause to drainPauseMax, and
	// so does the time for which a source is passed over whose event could not be sent.
	drainPause    = 250 * time.Millisecond
	drainPauseMax = 30 * time.Second

	maxPassedOver = 1000 // sources
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
	var over passedOver
	for last := false; !last; {
		select {
		case <-wait.C:
		case <-closing:
			last = true // one attempt more, for all sources
			over = passedOver{}
		}
		o.mu.Lock()
		o.again = false
		o.mu.Unlock()
		over.end(time.Now())
		b, err := l.drainBatch(over.sources)
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
		if err == nil {
			over.add(b, time.Now().Add(pause))
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
	sent   int      // or refused by the sink
	failed []string // the sources whose next event could not be sent
	left   int
}

// passedOver are sources whose next event could not be sent. They are left out of batches for a
// time, so that they hold up no other source.
type passedOver struct {
	sources []string
	until   time.Time
	pause   time.Duration
}

// end includes the sources again once their time is over.
func (p *passedOver) end(now time.Time) {
	if !now.Before(p.until) {
		p.sources = nil
	}
}

// add passes over the sources that failed in a batch, from the next one on, which begins at next.
// A batch in which nothing was sent and nothing failed had no other sources: all are due again.
func (p *passedOver) add(b batch, next time.Time) {
	switch {
	case len(b.failed) > 0:
		if len(p.sources) == 0 { // the batch had all sources
			p.pause = min(max(2*p.pause, drainPause), drainPauseMax)
		}
		p.sources = append(p.sources, b.failed...)
		p.until = next.Add(p.pause)
	case len(p.sources) == 0: // all of them work
		p.pause = 0
	}
	if b.sent == 0 && len(b.failed) == 0 || len(p.sources) > maxPassedOver {
		p.sources = nil
	}
}

// An entry is one event of the outbox.
type entry struct {
	id     int64
	source string
	event  event.Event
	err    error // the event cannot be read
}

// drainBatch sends the oldest events but those of some sources, if no other pod does so at this
// time. Events of a source are sent one after the other; once one could not be sent, those
// behind it wait. Sending takes half of the time that the transaction has, so that what was
// sent can be settled: else it would be sent again, and again.
func (l *Ledger) drainBatch(over []string) (batch, error) {
	timeout := 3 * l.config.Sending
	ctx, cancel := context.WithTimeout(l.ended, timeout)
	defer cancel()
	var b batch
	err := l.with(ctx, func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if err := limit(ctx, tx, timeout); err != nil {
			return err
		}
		var mine bool
		if err := tx.QueryRowContext(ctx, `SELECT pg_try_advisory_xact_lock($1, $2)`, locks, l.outboxLock()).Scan(&mine); err != nil {
			return err
		}
		if mine {
			entries, err := l.next(ctx, tx, over)
			if err != nil {
				return err
			}
			sent, refused, failed := l.sendAll(ctx, entries)
			b.sent, b.failed = len(sent)+len(refused), failed
			if err := l.settleOutbox(ctx, tx, sent, refused); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		b.left, err = l.measureOutbox(ctx, db)
		return err
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

// next returns the oldest entries but those of some sources.
func (l *Ledger) next(ctx context.Context, tx *sql.Tx, over []string) ([]entry, error) {
	sources, err := json.Marshal(append([]string{}, over...)) // they are JSON's, as they came from a text
	if err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, `
		SELECT id, source, event FROM (
			SELECT id, source, event, sum(octet_length(event)) OVER (ORDER BY id) AS bytes, row_number() OVER (ORDER BY id) AS n
			FROM (
				SELECT id, source, event FROM coffeebuddy_outbox
				WHERE app = $1 AND refused IS NULL AND source NOT IN (SELECT jsonb_array_elements_text($4::jsonb))
				ORDER BY id LIMIT $2
			) oldest
		) measured WHERE n = 1 OR bytes <= $3 ORDER BY id`, l.config.App, drainRows, drainBytes, string(sources))
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
		e.event, e.err = events.ReadEvent(encoded)
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// sendAll sends entries, and returns the ids of those that the sink took, and of those that it
// refused for good, and the sources whose next entry could not be sent.
func (l *Ledger) sendAll(ctx context.Context, entries []entry) (sent, refused []int64, failed []string) {
	last := time.Now().Add(l.config.Sending / 2) // when an event may begin to be sent
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
			for i, e := range bySource[source] {
				if ctx.Err() != nil || time.Now().After(last) {
					return // its turn comes
				}
				err := l.sendEntry(ctx, e)
				mu.Lock()
				switch {
				case err == nil:
					sent = append(sent, e.id)
				case events.Refusal(ctx, err).Outcome == events.Rejected:
					refused = append(refused, e.id)
				default:
					if i == 0 { // else it went forward, and is tried again in the next batch
						failed = append(failed, source)
					}
					mu.Unlock()
					return
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return sent, refused, failed
}

// sendEntry sends one entry. A pod of another release may be able to read one that this pod
// cannot.
func (l *Ledger) sendEntry(ctx context.Context, e entry) error {
	if e.err != nil {
		l.config.Log.LogAttrs(ctx, slog.LevelWarn, "an event of the outbox cannot be read", slog.Int64("id", e.id))
		return e.err
	}
	ctx, cancel := context.WithTimeout(ctx, l.config.Sending)
	defer cancel()
	return l.config.Sender.Send(ctx, e.event)
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

// measureOutbox returns how many events wait, at most countedAtMost, and keeps it for the
// metrics.
func (l *Ledger) measureOutbox(ctx context.Context, db *sql.DB) (length int, err error) {
	var age float64
	var refused int
	err = db.QueryRowContext(ctx, `
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
