package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/ledger"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// atATime is how many events the benchmarks have under way.
const atATime = 8

// measure does something b.N times, atATime at a time, and reports how often in a second, and
// the median and the 99th percentile of how long it took.
func measure(b *testing.B, do func(n int) error) {
	b.Helper()
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	b.ResetTimer()
	var all sync.WaitGroup
	for range atATime {
		all.Go(func() {
			for n := int(next.Add(1)) - 1; n < b.N; n = int(next.Add(1)) - 1 {
				began := time.Now()
				if err := do(n); err != nil {
					b.Error(err)
					return
				}
				took[n] = time.Since(began)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func benchLedger(b *testing.B, d database) *ledger.Ledger {
	b.Helper()
	l, err := ledger.New(ledger.Config{URL: d.url(), Credentials: as("owner"), Connections: atATime + 3, Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close(context.Background()) })
	if err := l.Check(b.Context()); err != nil {
		b.Fatal(err)
	}
	return l
}

// remember fills the ledger with records that are kept.
func remember(t testing.TB, d database, rows int) {
	t.Helper()
	run(t, d.DB, `INSERT INTO coffeebuddy_ledger (key, owner, data, until, sweep, record)
		SELECT sha256(i::text::bytea), substr(sha256('o'), 1, 16), sha256('d'), now() + interval '1 d', now() + interval '1 d', repeat('r', 100)::bytea
		FROM generate_series(1, `+strconv.Itoa(rows)+`) i`)
	run(t, d.DB, `VACUUM ANALYZE coffeebuddy_ledger`)
}

// BenchmarkClaim claims and settles an event on a database that remembers so many already.
func BenchmarkClaim(b *testing.B) {
	for _, rows := range []int{1_000, 100_000, 1_000_000, 10_000_000} {
		if rows > 1_000_000 && testing.Short() {
			continue
		}
		d := newDatabase(b)
		l := benchLedger(b, d)
		remember(b, d, rows)
		run := 0
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			run++
			measure(b, func(n int) error {
				claim, err := l.Claim(b.Context(), request(fmt.Sprintf("bench %d %d", run, n)))
				if err == nil {
					err = claim.Settle(b.Context(), make([]byte, 100))
				}
				return err
			})
		})
		var size string
		if err := d.QueryRowContext(b.Context(), `SELECT pg_size_pretty(pg_total_relation_size('coffeebuddy_ledger'))`).Scan(&size); err != nil {
			b.Fatal(err)
		}
		b.Logf("%d rows: %s with the indexes", rows, size)
		d.drop(b, l)
	}
}

// BenchmarkEvent has a receiver receive an event: without deduplication, remembered in memory,
// remembered in PostgreSQL, and with one INSERT of its own beside that or in the transaction.
func BenchmarkEvent(b *testing.B) {
	d := newDatabase(b)
	l := benchLedger(b, d)
	remember(b, d, 100_000)
	run(b, d.DB, `CREATE TABLE effect (id text)`)
	const insert = `INSERT INTO effect VALUES ($1)`
	d.SetMaxOpenConns(atATime)
	d.SetMaxIdleConns(atATime)
	nothing := func(context.Context, event.Event) (*event.Event, error) { return nil, nil } //nolint:nilnil // no reply
	direct := func(ctx context.Context, e event.Event) (*event.Event, error) {
		_, err := d.ExecContext(ctx, insert, e.ID())
		return nil, err
	}
	for _, test := range []struct {
		name    string
		ledger  events.Ledger
		receive events.Receiver
		options []events.Option
	}{
		{"no deduplication", nil, nothing, nil},
		{"Deduplicate in memory", nil, nothing, []events.Option{events.Deduplicate(time.Hour)}},
		{"Deduplicate in PostgreSQL", l, nothing, []events.Option{events.Deduplicate(time.Hour)}},
		{"INSERT alone", nil, direct, nil},
		{"INSERT and Deduplicate in PostgreSQL", l, direct, []events.Option{events.Deduplicate(time.Hour)}},
		{"INSERT in the transaction", l, func(ctx context.Context, e event.Event) (*event.Event, error) {
			tx, err := ledger.Tx(ctx)
			if err != nil {
				return nil, err
			}
			_, err = tx.ExecContext(ctx, insert, e.ID())
			return nil, err
		}, []events.Option{events.Transactional(time.Hour)}},
	} {
		run := 0
		b.Run(test.name, func(b *testing.B) {
			run++
			e, err := events.New(events.Config{Ledger: test.ledger, InFlight: 2 * atATime})
			if err == nil {
				err = e.On("coffee.ordered", test.receive, test.options...)
			}
			if err != nil {
				b.Fatal(err)
			}
			measure(b, func(n int) error {
				if v := e.Dispatch(b.Context(), ordered(fmt.Sprintf("%s %d %d", test.name, run, n))); v.Outcome != events.Accepted {
					return errors.New(string(v.Outcome))
				}
				return nil
			})
		})
	}
}

// drop drops a database whose ledger is done, so that the next has the disk.
func (d database) drop(b *testing.B, l *ledger.Ledger) {
	b.Helper()
	_ = l.Close(b.Context())
	_ = d.Close()
	all := server.open("owner", "postgres")
	defer all.Close()
	run(b, all, `DROP DATABASE `+d.name)
}

// TestStatementsUseAnIndex: none reads the whole table, however many events are remembered.
func TestStatementsUseAnIndex(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	is.NoErr(l.Check(t.Context()))
	remember(t, d, 20_000)
	scans := func(kind string) int {
		return one[int](t, d.DB, `SELECT `+kind+` FROM pg_stat_user_tables WHERE relname = 'coffeebuddy_ledger'`)
	}
	for i := range 20 {
		is.True(accepted(t, l, "before "+strconv.Itoa(i)))
	}
	eventually(t, func() bool { return scans("n_live_tup") >= 20_000 && scans("idx_scan") >= 20 }) // they are counted late
	read := func() int {
		return one[int](t, d.DB, `SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'coffeebuddy_ledger_sweep'`)
	}
	index, sequential := scans("idx_scan"), scans("seq_scan")
	for i := range 200 { // three of which sweep
		claim, err := l.Claim(t.Context(), request(strconv.Itoa(i)))
		is.NoErr(err)
		if i%2 == 0 {
			is.NoErr(claim.Settle(t.Context(), nil))
			_, err = l.Claim(t.Context(), request(strconv.Itoa(i)))
			is.True(err != nil)
			continue
		}
		is.NoErr(claim.Release(t.Context()))
	}
	is.NoErr(l.Close(t.Context()))
	eventually(t, func() bool { return scans("idx_scan") >= index+200 })
	is.Equal(scans("seq_scan"), sequential)
	is.True(read() < 1_000) // sweeping reads what has ended
}
