package ledger_test

import (
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/ledger"
)

// BenchmarkClaim claims and settles, 8 at a time, on a database that remembers so many events:
// LEDGER_ROWS, 1,000 by default. What it reports beside the mean is the 99th percentile of one
// event's two round trips.
func BenchmarkClaim(b *testing.B) {
	d := newDatabase(b)
	l, err := ledger.New(ledger.Config{URL: d.url(), Credentials: as("owner"), Connections: 8})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close(b.Context()) })
	if err := l.Check(b.Context()); err != nil {
		b.Fatal(err)
	}
	rows := os.Getenv("LEDGER_ROWS")
	if rows == "" {
		rows = "1000"
	}
	if _, err := d.Exec(`INSERT INTO coffeebuddy_ledger (key, owner, data, until, sweep, record)
		SELECT sha256(i::text::bytea), substr(sha256('o'), 1, 16), sha256('d'), now() + interval '1 h', now() + interval '1 h', repeat('r', 100)::bytea
		FROM generate_series(1, ` + rows + `) i`); err != nil {
		b.Fatal(err)
	}
	if _, err := d.Exec(`VACUUM ANALYZE coffeebuddy_ledger`); err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	var took []time.Duration
	next := 0
	work := func() {
		for {
			mu.Lock()
			next++
			n := next
			mu.Unlock()
			if n > b.N {
				return
			}
			began := time.Now()
			claim, err := l.Claim(b.Context(), request("bench "+strconv.Itoa(n)))
			if err == nil {
				err = claim.Settle(b.Context(), make([]byte, 100))
			}
			if err != nil {
				b.Error(err)
				return
			}
			mu.Lock()
			took = append(took, time.Since(began))
			mu.Unlock()
		}
	}
	b.ResetTimer()
	var all sync.WaitGroup
	for range 8 {
		all.Go(work)
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkMemory is the same in memory.
func BenchmarkMemory(b *testing.B) {
	m := events.NewMemory()
	for n := range b.N {
		claim, err := m.Claim(b.Context(), request(strconv.Itoa(n)))
		if err != nil {
			b.Fatal(err)
		}
		if err := claim.Settle(b.Context(), make([]byte, 100)); err != nil {
			b.Fatal(err)
		}
	}
}
