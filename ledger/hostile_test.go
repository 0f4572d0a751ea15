package ledger_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/internal/fault"
	"coffeebuddy/ledger"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
)

// accepted reports whether a ledger gives a claim.
func accepted(t *testing.T, l *ledger.Ledger, id string) bool {
	t.Helper()
	claim, err := l.Claim(t.Context(), request(id))
	return err == nil && claim.Release(t.Context()) == nil
}

// TestServersThatAreNone have one reason, whatever they say, and make the ledger neither panic
// nor take memory for what they announce.
func TestServersThatAreNone(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		says string
		want fault.Reason
	}{
		{"HTTP/1.1 400 canary\r\n\r\n", fault.BadResponse},
		{"SSH-2.0-canary\r\n", fault.BadResponse},
		{"\x4a\x00\x00\x00\x0acanary", fault.BadResponse},     // MySQL
		{strings.Repeat("\x00", 1<<12), fault.BadResponse},    // lengths of nothing
		{"R\x00\x00\x00\x00canary", fault.BadResponse},        // less than nothing
		{"R\x00\x00\x00\x08\x00\x00\x00c", fault.BadResponse}, // a way to authenticate that there is not
		{"E\xff\xff\xff\xffcanary\x00", fault.BadResponse},    // an error of 4 GiB
		{"", fault.Refused},
	} {
		t.Run(strconv.Quote(test.says[:min(8, len(test.says))]), func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			address := answering(t, func(c net.Conn) { _, _ = io.WriteString(c, test.says) })
			for _, sslmode := range []string{"disable", "require"} {
				l, err := ledger.New(ledger.Config{URL: "postgres://" + address + "/x?sslmode=" + sslmode, Credentials: as("owner"), Timeout: time.Second})
				is.NoErr(err)
				err = l.Check(t.Context())
				is.True(err != nil && !strings.Contains(err.Error(), "canary"))
				if sslmode == "disable" {
					is.Equal(fault.ReasonOf(err), test.want)
				}
			}
		})
	}
}

// answering returns the address of a server that does something with each connection.
func answering(t *testing.T, do func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 1024))
				do(c)
			}()
		}
	}()
	return listener.Addr().String()
}

// TestServerThatNeverAnswers costs each caller its deadline, and no more.
func TestServerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	address := answering(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1024)) })
	l, err := ledger.New(ledger.Config{URL: "postgres://" + address + "/x?sslmode=disable", Credentials: as("owner"), Timeout: 300 * time.Millisecond})
	is.NoErr(err)
	began := time.Now()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			_, err := l.Claim(t.Context(), request(strconv.Itoa(i)))
			if fault.ReasonOf(err) != fault.Timeout {
				t.Error(err)
			}
		})
	}
	all.Wait()
	is.True(time.Since(began) < 3*time.Second)
}

// TestRefusals of a database: each has one reason, its SQLSTATE in the detail, and passes.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when, refuse, restore string // <role> and <database> stand for names
		want                  fault.Reason
		code                  string
	}{
		{"no connection is left", `ALTER ROLE "<role>" CONNECTION LIMIT 0`, `ALTER ROLE "<role>" CONNECTION LIMIT -1`, fault.Unavailable, "53300"},
		{"no connection to the database is left", `ALTER DATABASE "<database>" CONNECTION LIMIT 0`, `ALTER DATABASE "<database>" CONNECTION LIMIT -1`, fault.Unavailable, "53300"},
		{"the password has expired", `ALTER ROLE "<role>" VALID UNTIL '2001-01-01'`, `ALTER ROLE "<role>" VALID UNTIL 'infinity'`, fault.Denied, "28P01"},
		{"the user may not log in", `ALTER ROLE "<role>" NOLOGIN`, `ALTER ROLE "<role>" LOGIN`, fault.Denied, "28000"},
		{"a right was taken", `REVOKE INSERT ON coffeebuddy_ledger FROM "<role>"`, `GRANT INSERT ON coffeebuddy_ledger TO "<role>"`, fault.Denied, ""},
		{"the search path is empty", `ALTER ROLE "<role>" SET search_path = ''`, `ALTER ROLE "<role>" RESET search_path`, fault.Denied, ""},
		{"it is read-only", `ALTER DATABASE "<database>" SET default_transaction_read_only = on`, `ALTER DATABASE "<database>" RESET default_transaction_read_only`, fault.Unavailable, ""},
		{"the table is locked", `BEGIN; LOCK coffeebuddy_ledger`, `COMMIT`, fault.Timeout, ""},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is, d := is.New(t), newDatabase(t)
			names := strings.NewReplacer("<role>", "role_"+d.name, "<database>", d.name)
			run(t, d.DB, ledger.Schema)
			run(t, d.DB, names.Replace(`CREATE ROLE "<role>" LOGIN PASSWORD '`+password+`'; GRANT SELECT, INSERT, UPDATE, DELETE ON coffeebuddy_ledger, coffeebuddy_outbox TO "<role>"`))
			operator, err := d.Conn(t.Context())
			is.NoErr(err)
			defer operator.Close()
			_, err = operator.ExecContext(t.Context(), names.Replace(test.refuse))
			is.NoErr(err)
			l := d.ledger(t, func(c *ledger.Config) { c.Credentials = as("role_" + d.name) })
			claim := func() error {
				claim, err := l.Claim(t.Context(), request("1"))
				if err != nil {
					return err
				}
				return claim.Release(t.Context())
			}
			err = claim()
			is.Equal(fault.ReasonOf(err), test.want)
			is.True(strings.Contains(err.Error(), test.code))
			is.True(!strings.Contains(err.Error(), d.name))
			_, err = operator.ExecContext(t.Context(), names.Replace(test.restore))
			is.NoErr(err)
			eventually(t, func() bool { return claim() == nil && l.Check(t.Context()) == nil })
		})
	}
}

// TestFailover: connections to what was the primary, and is a standby now, are not used for
// ever.
func TestFailover(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	is.NoErr(l.Check(t.Context()))
	run(t, d.DB, fmt.Sprintf(`ALTER DATABASE %s SET default_transaction_read_only = on`, d.name))
	run(t, d.DB, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	eventually(t, func() bool { return fault.ReasonOf(l.Check(t.Context())) == fault.Unavailable }) // by a connection that is kept
	_, err := l.Claim(t.Context(), request("1"))
	is.Equal(fault.ReasonOf(err), fault.Unavailable)
	admin := server.open("owner", "postgres")
	defer admin.Close()
	run(t, admin, fmt.Sprintf(`ALTER DATABASE %s RESET default_transaction_read_only`, d.name))
	eventually(t, func() bool { return l.Check(t.Context()) == nil && accepted(t, l, "1") })
}

// TestTerminatedConnections that were idle are replaced, and no caller sees it.
func TestTerminatedConnections(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	for range 5 {
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				if !accepted(t, l, strconv.Itoa(i)) {
					t.Error("a claim failed")
				}
			})
		}
		all.Wait()
		run(t, d.DB, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	is.Equal(series(t, l, "coffeebuddy_ledger_claims_total", "failed"), 0.0)
}

// TestTerminatedWhileClaiming: the claim fails or is made again, but is not given to two.
func TestTerminatedWhileClaiming(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	is.NoErr(l.Check(t.Context()))
	lock, err := d.BeginTx(t.Context(), nil)
	is.NoErr(err)
	_, err = lock.ExecContext(t.Context(), `LOCK coffeebuddy_ledger IN EXCLUSIVE MODE`)
	is.NoErr(err)
	claims := make(chan error)
	go func() {
		_, err := l.Claim(t.Context(), request("1"))
		claims <- err
	}()
	eventually(t, func() bool {
		return one[int](t, d.DB, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})
	is.NoErr(lock.Rollback())
	if err := <-claims; err != nil {
		is.Equal(fault.ReasonOf(err), fault.Refused)
		is.True(accepted(t, l, "1"))
		return
	}
	_, err = d.ledger(t).Claim(t.Context(), request("1"))
	is.Equal(err, events.ErrRunning)
}

// TestCommitOfUnknownOutcome: the connection breaks around COMMIT. The sender is told to send
// the event again, and the effect is there once, whichever way it went.
func TestCommitOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, arrives := range []bool{false, true} {
		t.Run(fmt.Sprintf("COMMIT arrives: %t", arrives), func(t *testing.T) {
			t.Parallel()
			is, d := is.New(t), newDatabase(t)
			run(t, d.DB, `CREATE TABLE effect (id text)`)
			var broken atomic.Bool
			address := breaking(t, &broken, arrives)
			l := d.ledger(t, func(c *ledger.Config) { c.URL = "postgres://" + address + "/" + d.name + "?sslmode=disable" })
			e := engine(t, l, nil)
			is.NoErr(e.On("coffee.ordered", insertEffect, events.Transactional(time.Hour)))
			broken.Store(true)
			is.Equal(e.Dispatch(t.Context(), ordered("1")).Outcome, events.Retry)
			is.True(!broken.Load()) // it did break
			outcome := events.Accepted
			if arrives {
				outcome = events.Duplicate
			}
			eventually(t, func() bool {
				v := e.Dispatch(t.Context(), ordered("1"))
				return v.Outcome == outcome && v.First != events.Failed
			})
			is.Equal(one[int](t, d.DB, `SELECT count(*) FROM effect`), 1)
		})
	}
}

// insertEffect is a receiver.
func insertEffect(ctx context.Context, in event.Event) (*event.Event, error) {
	tx, err := ledger.Tx(ctx)
	if err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO effect VALUES ($1)`, in.ID())
	return nil, err
}

// breaking returns the address of a proxy to the server that breaks one connection at its
// COMMIT, before or after it has arrived, while broken is true.
func breaking(t *testing.T, broken *atomic.Bool, arrives bool) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			front, err := listener.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", server.port))
			if err != nil {
				_ = front.Close()
				return
			}
			committed := make(chan struct{})
			go func() {
				defer back.Close()
				buffer := make([]byte, 1<<16)
				for {
					n, err := front.Read(buffer)
					if err != nil {
						return
					}
					if bytes.Contains(buffer[:n], []byte("COMMIT")) && broken.CompareAndSwap(true, false) {
						if arrives {
							close(committed)
							_, _ = back.Write(buffer[:n])
							_, _ = back.Read(buffer[:1]) // it is committed by then
						}
						_ = front.Close()
						return
					}
					if _, err := back.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
			go func() {
				defer front.Close()
				buffer := make([]byte, 1<<16)
				for {
					n, err := back.Read(buffer)
					select {
					case <-committed:
						return
					default:
					}
					if err != nil {
						return
					}
					if _, err := front.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestSerializableDatabase: where each transaction is serializable, claims that collide come
// again, and none is given to two.
func TestSerializableDatabase(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	run(t, d.DB, fmt.Sprintf(`ALTER DATABASE %s SET default_transaction_isolation = 'serializable'`, d.name))
	ledgers := []*ledger.Ledger{d.ledger(t), d.ledger(t)}
	is.NoErr(ledgers[0].Check(t.Context()))
	for i := range 20 {
		var claimed atomic.Int64
		var all sync.WaitGroup
		for n := range 8 {
			all.Go(func() {
				_, err := ledgers[n%2].Claim(t.Context(), request(strconv.Itoa(i)))
				switch reason := fault.ReasonOf(err); {
				case err == nil:
					claimed.Add(1)
				case errors.Is(err, events.ErrRunning):
				case reason != fault.Unavailable: // 503, and the sender comes again
					t.Error(err)
				}
			})
		}
		all.Wait()
		is.True(claimed.Load() <= 1)
		_, err := ledgers[0].Claim(t.Context(), request(strconv.Itoa(i)))
		is.Equal(errors.Is(err, events.ErrRunning), claimed.Load() == 1)
	}
}

// TestDeadlock of two receivers: one of them is rolled back, and comes again.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	run(t, d.DB, `CREATE TABLE stock (id text PRIMARY KEY, n int); INSERT INTO stock VALUES ('milk', 0), ('beans', 0)`)
	var both sync.WaitGroup
	both.Add(2)
	var met [2]sync.Once
	e := engine(t, d.ledger(t, func(c *ledger.Config) { c.Connections = 8 }), nil)
	is.NoErr(e.On("coffee.ordered", func(ctx context.Context, in event.Event) (*event.Event, error) {
		tx, err := ledger.Tx(ctx)
		if err != nil {
			return nil, err
		}
		order := []string{"milk", "beans"}
		if in.ID() == "1" {
			order = []string{"beans", "milk"}
		}
		for i, id := range order {
			if _, err := tx.ExecContext(ctx, `UPDATE stock SET n = n + 1 WHERE id = $1`, id); err != nil {
				return nil, err
			}
			if i == 0 {
				met[int(in.ID()[0]-'0')].Do(both.Done)
				both.Wait()
			}
		}
		return nil, nil
	}, events.Transactional(time.Hour)))
	var all sync.WaitGroup
	for _, id := range []string{"0", "1"} {
		all.Go(func() {
			eventually(t, func() bool {
				v := e.Dispatch(t.Context(), ordered(id))
				return v.Outcome == events.Accepted
			})
		})
	}
	all.Wait()
	is.Equal(one[string](t, d.DB, `SELECT string_agg(n::text, ',') FROM stock`), "2,2")
}

// TestSlowTransactions take not all connections: claims, settling and checks go on, and so the
// pod stays ready.
func TestSlowTransactions(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t, func(c *ledger.Config) { c.Connections, c.Timeout = 5, time.Second })
	is.NoErr(l.Check(t.Context()))
	ctx, end := context.WithCancel(t.Context())
	begun := make(chan error, 8)
	var claims []events.Claim
	for i := range cap(begun) {
		r := request("slow " + strconv.Itoa(i))
		r.Transactional = true
		claim, err := l.Claim(t.Context(), r)
		is.NoErr(err)
		claims = append(claims, claim)
		go func() {
			_, err := ledger.Tx(claim.Context(ctx))
			begun <- err
		}()
	}
	is.NoErr(<-begun)
	is.NoErr(<-begun) // and no more than two
	for i := range 20 {
		is.NoErr(l.Check(t.Context()))
		is.True(accepted(t, l, "quick "+strconv.Itoa(i)))
	}
	is.Equal(len(begun), 0)
	end()
	for range cap(begun) - 2 {
		is.True(<-begun != nil)
	}
	for _, claim := range claims {
		is.NoErr(claim.Release(t.Context()))
	}
	r := request("after")
	r.Transactional = true
	claim, err := l.Claim(t.Context(), r)
	is.NoErr(err)
	_, err = ledger.Tx(claim.Context(t.Context()))
	is.NoErr(err) // the slots are free again
	is.NoErr(claim.Settle(t.Context(), nil))
}

// TestSchemas: the tables may be in any schema of the user's search path, and be another's.
func TestSchemas(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	run(t, d.DB, fmt.Sprintf(`CREATE ROLE user_%[1]s LOGIN PASSWORD '%[2]s'; CREATE SCHEMA shop; ALTER ROLE user_%[1]s SET search_path = nowhere, shop;
		SET search_path = shop; %[3]s; RESET search_path;
		GRANT USAGE ON SCHEMA shop TO user_%[1]s; GRANT SELECT, INSERT, UPDATE, DELETE ON shop.coffeebuddy_ledger, shop.coffeebuddy_outbox TO user_%[1]s`,
		d.name, password, ledger.Schema))
	l := d.ledger(t, func(c *ledger.Config) { c.Credentials = as("user_" + d.name) })
	is.NoErr(l.Check(t.Context()))
	is.True(accepted(t, l, "1"))
	is.Equal(one[sql.NullString](t, d.DB, `SELECT to_regclass('public.coffeebuddy_ledger')::text`).Valid, false)
}

// TestEventsThatAreHostile: an id and a source of a megabyte are remembered as any others are.
// Bytes that are no text never come to the ledger.
func TestEventsThatAreHostile(t *testing.T) {
	t.Parallel()
	is, d, s := is.New(t), newDatabase(t), new(sender)
	first, again := events.Accepted, events.Duplicate
	for _, test := range []struct {
		id, source string
		want       [2]events.Outcome
	}{
		{strings.Repeat("x", 1<<20), "/shop", [2]events.Outcome{first, again}},
		{"1", "/" + strings.Repeat("x", 1<<20), [2]events.Outcome{first, again}},
		{"'; DROP TABLE coffeebuddy_ledger; --", "/$1", [2]events.Outcome{first, again}},
		{"%00", "/%00", [2]events.Outcome{first, again}},
		{"a\x00b", "/shop", [2]events.Outcome{events.Malformed, events.Malformed}},
		{"\xff\xfe", "/shop", [2]events.Outcome{events.Malformed, events.Malformed}},
	} {
		for _, want := range test.want {
			e := engine(t, d.ledger(t, func(c *ledger.Config) { c.Sender = s }), s)
			is.NoErr(e.On("coffee.ordered", func(ctx context.Context, in event.Event) (*event.Event, error) {
				out := made(in.Source(), in.ID())
				return nil, engine(t, nil, s).Send(ctx, out) // by the outbox
			}, events.Transactional(time.Hour)))
			in := ordered(test.id)
			in.SetSource(test.source)
			is.Equal(e.Dispatch(t.Context(), in).Outcome, want)
		}
	}
	eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.ids) == 4 })
}

// TestClockOfAPod does not matter: here it stands in the year 2000, where synctest's does, and
// the claims of that pod are as good as any other's.
func TestClockOfAPod(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	other := d.ledger(t)
	is.NoErr(other.Check(t.Context()))
	held, settle := make(chan error), make(chan struct{})
	// What is made outside of a bubble may not be used to wait inside of it.
	go synctest.Test(t, func(t *testing.T) {
		skewed, err := ledger.New(ledger.Config{URL: d.url(), Credentials: as("owner"), Connections: 1, Timeout: time.Hour})
		if err != nil {
			held <- err
			return
		}
		defer skewed.Close(context.Background())
		claim, err := skewed.Claim(context.Background(), request("1"))
		held <- err
		<-settle
		if err == nil {
			err = claim.Settle(context.Background(), []byte("record"))
		}
		held <- err
	})
	is.NoErr(<-held)
	until := one[float64](t, d.DB, `SELECT extract(epoch FROM until - clock_timestamp())::float8 FROM coffeebuddy_ledger`)
	is.True(until > 0 && until <= 60) // of the lease, by the database's clock
	_, err := other.Claim(t.Context(), request("1"))
	is.Equal(err, events.ErrRunning)
	close(settle)
	is.NoErr(<-held)
	_, err = other.Claim(t.Context(), request("1"))
	answered, ok := errors.AsType[*events.Answered](err)
	is.True(ok)
	is.Equal(string(answered.Record), "record")
}
