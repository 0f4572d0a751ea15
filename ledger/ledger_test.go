package ledger_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/events/ledgertest"
	"coffeebuddy/internal/fault"
	"coffeebuddy/ledger"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLedger(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	ledgertest.Run(t, func(t *testing.T) events.Ledger { return d.ledger(t) })
}

// request is for one event.
func request(id string) events.Request {
	return events.Request{Key: events.KeyOf(id), Data: sha256.Sum256(nil), Receiver: "coffee.ordered", Lease: time.Minute, Keep: time.Hour}
}

// eventually waits for a condition.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it never came true")
		}
	}
}

// TestLeaseOfAnOwnerThatDied ends by the database's clock, and its event may be claimed again.
// The owner, if it was only slow, can settle no more.
func TestLeaseOfAnOwnerThatDied(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	one, other := d.ledger(t), d.ledger(t)
	r := request("1")
	var lost atomic.Bool
	r.Lost = func() { lost.Store(true) }
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	_, err = other.Claim(t.Context(), r)
	is.Equal(err, events.ErrRunning)
	run(t, d.DB, `UPDATE coffeebuddy_ledger SET until = clock_timestamp()`) // as if it had not been renewed
	second, err := other.Claim(t.Context(), r)
	is.NoErr(err)
	is.Equal(claim.Settle(t.Context(), []byte("first")), events.ErrLost)
	is.NoErr(claim.Release(t.Context())) // which releases nothing
	is.NoErr(second.Settle(t.Context(), []byte("second")))
	_, err = one.Claim(t.Context(), r)
	answered, ok := errors.AsType[*events.Answered](err)
	is.True(ok)
	is.Equal(string(answered.Record), "second")
}

// TestLeaseIsRenewed: a slow receiver is not taken for one that died.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	one, other := d.ledger(t), d.ledger(t)
	r := request("1")
	r.Lease = 3 * time.Second // a renewal may be two seconds late on a busy machine
	claim, err := one.Claim(t.Context(), r)
	is.NoErr(err)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < 2*r.Lease; <-tick.C {
		_, err = other.Claim(t.Context(), r)
		is.Equal(err, events.ErrRunning)
	}
	is.NoErr(claim.Settle(t.Context(), nil))
}

// TestLostClaimIsNoticed by the renewal, so that the receiver can be stopped.
func TestLostClaimIsNoticed(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	r, lost := request("1"), make(chan struct{})
	r.Lease, r.Lost = 300*time.Millisecond, func() { close(lost) }
	_, err := l.Claim(t.Context(), r)
	is.NoErr(err)
	run(t, d.DB, `UPDATE coffeebuddy_ledger SET owner = 'another'`)
	<-lost
	is.Equal(series(t, l, `coffeebuddy_ledger_claims_total`, "lost"), 1.0)
}

// series returns the value of a series with one label.
func series(t *testing.T, c prometheus.Collector, name, label string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatal("no such series: ", name)
	return 0
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	l := newDatabase(t).ledger(t)
	problems, err := testutil.CollectAndLint(l)
	is.NoErr(err)
	is.Equal(problems, nil)
	is.Equal(series(t, l, "coffeebuddy_ledger_connections", ""), 0.0) // it connects when it is asked
	_, err = l.Claim(t.Context(), request("1"))
	is.NoErr(err)
	is.Equal(series(t, l, "coffeebuddy_ledger_claims_total", "claimed"), 1.0)
	is.Equal(series(t, l, "coffeebuddy_ledger_connections", ""), 1.0)
}

// TestRoundTrips: claiming is one, and settling another. A transaction that is not used is
// none; one that is adds its begin and its commit.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	p := newProxy(t)
	l := d.ledger(t, func(c *ledger.Config) {
		c.URL, c.Connections = p.through(c.URL), 1
	})
	is.NoErr(l.Check(t.Context()))
	for i, transactional := range []bool{false, true} {
		before := p.requests.Load()
		r := request(strconv.Itoa(i))
		r.Transactional = transactional
		claim, err := l.Claim(t.Context(), r)
		is.NoErr(err)
		is.Equal(p.requests.Load()-before, int64(1))
		claim.Context(t.Context())
		is.NoErr(claim.Settle(t.Context(), []byte("record")))
		is.Equal(p.requests.Load()-before, int64(2))
	}
	before := p.requests.Load()
	r := request("in a transaction")
	r.Transactional = true
	claim, err := l.Claim(t.Context(), r)
	is.NoErr(err)
	ctx := claim.Context(t.Context())
	tx, err := ledger.Tx(ctx)
	is.NoErr(err)
	_, err = tx.ExecContext(ctx, `SELECT $1::text`, "an effect")
	is.NoErr(err)
	is.NoErr(claim.Settle(t.Context(), nil))
	is.Equal(p.requests.Load()-before, int64(5)) // claim, BEGIN, the receiver's own, settle, COMMIT
}

// A proxy is between a ledger and the server. It counts what the ledger sends, and can be cut.
type proxy struct {
	port     string
	requests atomic.Int64
	mu       sync.Mutex
	cut      bool
	healed   chan struct{}
	stranded chan struct{} // closed for the connections that there are
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	if server == nil {
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	return newProxyTo(t, server.port)
}

func newProxyTo(t *testing.T, port int) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{healed: make(chan struct{}), stranded: make(chan struct{})}
	_, p.port, _ = net.SplitHostPort(l.Addr().String())
	go func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				_ = front.Close()
				continue
			}
			p.mu.Lock()
			stranded := p.stranded
			p.mu.Unlock()
			go p.copy(back, front, &p.requests, stranded)
			go p.copy(front, back, new(atomic.Int64), stranded)
		}
	}()
	return p
}

// through returns the URL of a database of the server's, by the proxy.
func (p *proxy) through(url string) string {
	return strings.Replace(url, strconv.Itoa(server.port), p.port, 1)
}

// copy copies, and holds everything back while the network is cut.
func (p *proxy) copy(to, from net.Conn, count *atomic.Int64, stranded <-chan struct{}) {
	defer to.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		count.Add(1)
		p.mu.Lock()
		cut, healed := p.cut, p.healed
		p.mu.Unlock()
		if cut {
			<-healed
		}
		select {
		case <-stranded:
			continue
		default:
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// strand has the connections that there are lead nowhere.
func (p *proxy) strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.stranded)
	p.stranded = make(chan struct{})
}

func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut = cut; !cut {
		close(p.healed)
	} else {
		p.healed = make(chan struct{})
	}
}

// behindProxy returns a ledger whose tables are there, whose connections go through a proxy, and whose statements have a second.
func (d database) behindProxy(t *testing.T) (*proxy, *ledger.Ledger) {
	t.Helper()
	if err := d.ledger(t).Check(t.Context()); err != nil { // which makes the tables
		t.Fatal(err)
	}
	p := newProxy(t)
	return p, d.ledger(t, func(c *ledger.Config) {
		c.URL, c.Timeout = p.through(c.URL), time.Second
	})
}

// TestNetworkThatIsCut: what is asked ends with its deadline, not with the network's.
func TestNetworkThatIsCut(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p, l := newDatabase(t).behindProxy(t)
	claim, err := l.Claim(t.Context(), request("before"))
	is.NoErr(err)
	p.setCut(true)
	for range 3 {
		began := time.Now()
		_, err = l.Claim(t.Context(), request("while"))
		is.Equal(fault.ReasonOf(err), fault.Timeout)
		is.True(time.Since(began) < 4*time.Second)
	}
	is.True(claim.Settle(t.Context(), []byte("record")) != nil)
	p.setCut(false)
	eventually(t, func() bool { // it was settled when the network was there again
		_, err = l.Claim(t.Context(), request("before"))
		_, ok := errors.AsType[*events.Answered](err)
		return ok
	})
}

// TestTransactionOnADeadConnection: the network between the ledger's idle connections and the
// server has gone without a word, as after a failover, and new connections work.
func TestTransactionOnADeadConnection(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p, l := newDatabase(t).behindProxy(t)
	r := request("1")
	r.Transactional = true
	claim, err := l.Claim(t.Context(), r)
	is.NoErr(err)
	p.strand()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ctx = claim.Context(ctx)
	tx, err := ledger.Tx(ctx)
	is.NoErr(err)
	_, err = tx.ExecContext(ctx, `SELECT 1`)
	is.NoErr(err)
	is.NoErr(claim.Settle(t.Context(), nil))

	r = request("2")
	r.Transactional = true
	claim, err = l.Claim(t.Context(), r)
	is.NoErr(err)
	p.setCut(true) // of new ones as well
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	_, err = ledger.Tx(claim.Context(short))
	is.Equal(fault.ReasonOf(err), fault.Timeout)
	is.True(time.Since(began) < 5*time.Second)
	p.setCut(false)
}

// TestClaimWhoseResponseIsLost is given back: the next sender is not told for the length of a
// lease that the event is being received.
func TestClaimWhoseResponseIsLost(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	is.NoErr(l.Check(t.Context()))
	lost := 0
	for i := range 300 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%30)*100*time.Microsecond)
		claim, err := l.Claim(ctx, request(strconv.Itoa(i)))
		cancel()
		if err == nil {
			is.NoErr(claim.Release(t.Context()))
		} else {
			lost++
		}
		if i%10 == 9 {
			eventually(t, func() bool { return one[int](t, d.DB, `SELECT count(*) FROM coffeebuddy_ledger`) == 0 })
		}
	}
	is.True(lost > 0)
}

// TestTablesThatBecomeNewer: another release has changed the tables while the pod runs, which
// claims nothing in them from its next check on.
func TestTablesThatBecomeNewer(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	is.NoErr(l.Check(t.Context()))
	for _, test := range []struct {
		version int
		reason  fault.Reason
	}{{2, fault.BadResponse}, {1, ""}} {
		run(t, d.DB, fmt.Sprintf(`COMMENT ON TABLE coffeebuddy_ledger IS 'coffeebuddy ledger, version %d'`, test.version))
		is.Equal(fault.ReasonOf(l.Check(t.Context())), test.reason)
		_, err := l.Claim(t.Context(), request(strconv.Itoa(test.version)))
		is.Equal(fault.ReasonOf(err), test.reason)
	}
}

// TestTablesThatAreMissing are no reason for another user, which would find none either.
func TestTablesThatAreMissing(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	role := "reader_" + strings.TrimPrefix(d.name, "test_")
	run(t, d.DB, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%s'; REVOKE CREATE ON SCHEMA public FROM public`, role, password))
	refused := 0
	l := d.ledger(t, func(c *ledger.Config) {
		c.Credentials = func(_ context.Context, bad ledger.Credentials) (ledger.Credentials, error) {
			if bad.User != "" {
				refused++
			}
			return ledger.Credentials{User: role, Password: password}, nil
		}
	})
	is.Equal(fault.ReasonOf(l.Check(t.Context())), fault.Denied)
	is.Equal(refused, 0)
}

// TestSweep: what has ended is deleted by use.
func TestSweep(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	is.NoErr(l.Check(t.Context()))
	run(t, d.DB, `INSERT INTO coffeebuddy_ledger (key, owner, data, until, sweep, record)
		SELECT sha256(i::text::bytea), '', '', now() - interval '1 s', now() - interval '1 s', '' FROM generate_series(1, 1000) i`)
	run(t, d.DB, `UPDATE coffeebuddy_ledger SET until = now() + interval '1 h' WHERE key = sha256('1')`) // it was renewed
	claims := 0
	eventually(t, func() bool {
		claim, err := l.Claim(t.Context(), request(strconv.Itoa(claims)))
		is.NoErr(err)
		is.NoErr(claim.Release(t.Context()))
		claims++
		return one[int](t, d.DB, `SELECT count(*) FROM coffeebuddy_ledger`) == 1
	})
	is.True(claims >= 4*64) // in batches
}

// A sender takes what it gets, or says why not.
type sender struct {
	mu   sync.Mutex
	ids  []string
	fail func(e event.Event) error
}

func (s *sender) Send(_ context.Context, e event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(e); err != nil {
			return err
		}
	}
	s.ids = append(s.ids, e.Source()+e.ID())
	return nil
}

func (s *sender) sent() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.ids, " ")
}

// an event with an id of a source.
func made(source, id string) event.Event {
	e := event.New()
	e.SetID(id)
	e.SetSource(source)
	e.SetType("coffee.served")
	return e
}

// engine is of one process.
func engine(t *testing.T, l events.Ledger, s events.Sender) *events.Engine {
	t.Helper()
	e, err := events.New(events.Config{Ledger: l, Sender: s})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func ordered(id string) event.Event {
	e := made("/shop", id)
	e.SetType("coffee.ordered")
	return e
}

// TestTransaction: effect, record and outbox come together or not at all.
func TestTransaction(t *testing.T) {
	t.Parallel()
	canary := errors.New("canary")
	for _, test := range []struct {
		when    string
		receive func(context.Context) error
		outcome events.Outcome
		effects int
		sent    string
	}{
		{"the receiver accepts", func(context.Context) error { return nil }, events.Accepted, 1, "/bar1 /bar2"},
		{"it fails", func(context.Context) error { return canary }, events.Failed, 0, ""},
		{"it refuses for good", func(context.Context) error { return events.Permanent(canary) }, events.Rejected, 0, ""},
		{"it panics", func(context.Context) error { panic("canary") }, events.Failed, 0, ""},
		{"a statement fails", func(ctx context.Context) error {
			tx, err := ledger.Tx(ctx)
			if err == nil {
				_, _ = tx.ExecContext(ctx, `SELECT 1/0`) // and it accepts all the same
			}
			return err
		}, events.Retry, 0, ""},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is, d, s := is.New(t), newDatabase(t), new(sender)
			run(t, d.DB, `CREATE TABLE effect (id text)`)
			receiver := func(receive func(context.Context) error) events.Receiver {
				return func(ctx context.Context, e event.Event) (*event.Event, error) {
					tx, err := ledger.Tx(ctx)
					if err != nil {
						return nil, err
					}
					if _, err := tx.ExecContext(ctx, `INSERT INTO effect VALUES ($1)`, e.ID()); err != nil {
						return nil, err
					}
					for _, id := range []string{"1", "2"} {
						if err := engine(t, nil, s).Send(ctx, made("/bar", id)); err != nil {
							return nil, err
						}
					}
					return nil, receive(ctx)
				}
			}
			config := func(c *ledger.Config) { c.Sender = s }
			first := engine(t, d.ledger(t, config), s)
			is.NoErr(first.On("coffee.ordered", receiver(test.receive), events.Transactional(time.Hour)))
			is.Equal(first.Dispatch(t.Context(), ordered("1")).Outcome, test.outcome)
			is.Equal(one[int](t, d.DB, `SELECT count(*) FROM effect`), test.effects)
			eventually(t, func() bool { return s.sent() == test.sent })

			second := engine(t, d.ledger(t, config), s)
			is.NoErr(second.On("coffee.ordered", receiver(func(context.Context) error { return nil }), events.Transactional(time.Hour)))
			v := second.Dispatch(t.Context(), ordered("1"))
			is.Equal(v.Outcome == events.Duplicate, test.effects == 1)
			is.Equal(one[int](t, d.DB, `SELECT count(*) FROM effect`), 1)
			eventually(t, func() bool { return s.sent() == "/bar1 /bar2" })
			eventually(t, func() bool { return one[int](t, d.DB, `SELECT count(*) FROM coffeebuddy_outbox`) == 0 })
		})
	}
}

// TestTransactionIsItsReceiversAlone: what a task does, or the receiver of an event that is
// dispatched, is not undone with it, so neither has a part in it.
func TestTransactionIsItsReceiversAlone(t *testing.T) {
	t.Parallel()
	is, d, s := is.New(t), newDatabase(t), new(sender)
	e := engine(t, d.ledger(t, func(c *ledger.Config) { c.Sender = s }), s)
	is.NoErr(e.On("coffee.brewed", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		_, err := ledger.Tx(ctx)
		is.Equal(err, events.ErrNoTransaction)
		return nil, e.Send(ctx, made("/brewed", "1"))
	}, events.Deduplicate(time.Hour)))
	fails := true
	is.NoErr(e.On("coffee.ordered", func(ctx context.Context, _ event.Event) (*event.Event, error) {
		_, err := ledger.Tx(ctx)
		is.NoErr(err)
		is.NoErr(e.Send(ctx, made("/ordered", "1")))
		brewed := ordered("1")
		brewed.SetType("coffee.brewed")
		is.True(e.Dispatch(ctx, brewed).Outcome != events.Failed)
		sent := make(chan error)
		e.Go(ctx, "a task", func(ctx context.Context) error {
			_, err := ledger.Tx(ctx)
			is.Equal(err, events.ErrNoTransaction)
			sent <- e.Send(ctx, made("/task", "1"))
			return nil
		})
		is.NoErr(<-sent)
		if fails {
			return nil, errors.New("canary")
		}
		return nil, nil
	}, events.Transactional(time.Hour)))
	is.Equal(e.Dispatch(t.Context(), ordered("1")).Outcome, events.Failed)
	is.Equal(s.sent(), "/brewed1 /task1")
	fails = false
	is.Equal(e.Dispatch(t.Context(), ordered("1")).Outcome, events.Accepted)
	eventually(t, func() bool { return s.sent() == "/brewed1 /task1 /task1 /ordered1" })
}

// TestTransactionWithALongDeadline: the server keeps it for as long as its receiver may take.
func TestTransactionWithALongDeadline(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t, func(c *ledger.Config) { c.Receiver = time.Second })
	for _, test := range []struct {
		deadline time.Duration
		least    int // seconds
		most     int
	}{{500 * time.Millisecond, 6, 6}, {time.Minute, 60, 65}} {
		r := request(test.deadline.String())
		r.Transactional = true
		claim, err := l.Claim(t.Context(), r)
		is.NoErr(err)
		ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
		defer cancel()
		ctx = claim.Context(ctx)
		tx, err := ledger.Tx(ctx)
		is.NoErr(err)
		for _, setting := range []string{"idle_in_transaction_session_timeout", "statement_timeout"} {
			var seconds float64
			is.NoErr(tx.QueryRowContext(ctx, `SELECT extract(epoch FROM current_setting($1)::interval)`, setting).Scan(&seconds))
			is.True(int(seconds) >= test.least && int(seconds) <= test.most)
		}
		is.NoErr(claim.Release(t.Context()))
	}
}

// TestTransactionOfAnOwnerThatLostItsLease has no effect: the other owner's has.
func TestTransactionOfAnOwnerThatLostItsLease(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	run(t, d.DB, `CREATE TABLE effect (id text)`)
	r := request("1")
	r.Transactional = true
	insert := func(l *ledger.Ledger, name string) events.Claim {
		claim, err := l.Claim(t.Context(), r)
		is.NoErr(err)
		ctx := claim.Context(t.Context())
		tx, err := ledger.Tx(ctx)
		is.NoErr(err)
		_, err = tx.ExecContext(ctx, `INSERT INTO effect VALUES ($1)`, name)
		is.NoErr(err)
		return claim
	}
	slow := insert(d.ledger(t), "slow")
	run(t, d.DB, `UPDATE coffeebuddy_ledger SET until = clock_timestamp()`)
	fast := insert(d.ledger(t), "fast")
	is.Equal(slow.Settle(t.Context(), nil), events.ErrLost)
	is.NoErr(fast.Settle(t.Context(), nil))
	is.Equal(one[string](t, d.DB, `SELECT string_agg(id, ',') FROM effect`), "fast")
}

// put writes an event to the outbox, as a transaction does.
func (d database) put(t *testing.T, e event.Event) {
	t.Helper()
	_, err := d.ExecContext(t.Context(), `INSERT INTO coffeebuddy_outbox (app, source, event) VALUES ('coffeebuddy', $1, $2)`,
		e.Source(), events.AppendEvent(nil, e))
	is.New(t).NoErr(err)
}

// TestOutbox: in order for each source, past what fails and what is refused for good, by
// whoever is there.
func TestOutbox(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	away := atomic.Bool{}
	away.Store(true)
	s := &sender{fail: func(e event.Event) error {
		switch {
		case e.ID() == "refused":
			return events.Permanent(errors.New("canary"))
		case e.Source() == "/b" && away.Load():
			return errors.New("away")
		}
		return nil
	}}
	config := func(c *ledger.Config) { c.Sender = s }
	dead := d.ledger(t, config)
	is.NoErr(dead.Check(t.Context()))
	for _, e := range []event.Event{made("/a", "1"), made("/b", "1"), made("/a", "refused"), made("/b", "2"), made("/a", "2")} {
		d.put(t, e)
	}
	_, err := d.ExecContext(t.Context(), `INSERT INTO coffeebuddy_outbox (app, source, event) VALUES ('another', '/c', '')`)
	is.NoErr(err)
	alive := d.ledger(t, config)
	is.NoErr(alive.Check(t.Context())) // a pod that finds what another has left
	eventually(t, func() bool { return s.sent() == "/a1 /a2" })
	eventually(t, func() bool { return series(t, alive, "coffeebuddy_ledger_outbox_events", "") == 2 })
	is.True(series(t, alive, "coffeebuddy_ledger_outbox_age_seconds", "") > 0)
	is.Equal(series(t, alive, "coffeebuddy_ledger_outbox_refused_events", ""), 1.0)
	away.Store(false)
	eventually(t, func() bool { return s.sent() == "/a1 /a2 /b1 /b2" })
	eventually(t, func() bool { return series(t, alive, "coffeebuddy_ledger_outbox_events", "") == 0 })
	eventually(t, func() bool { return one[int](t, d.DB, `SELECT count(*) FROM coffeebuddy_outbox`) == 2 }) // the refused one, and another function's
}

// TestOutboxOfSourcesThatAreStuck: events of more sources than are sent from at a time, and more
// than a batch holds, hang at the sink or cannot be read. Those of another source pass them, and
// are not sent twice.
func TestOutboxOfSourcesThatAreStuck(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	s := new(hanging)
	l := d.ledger(t, func(c *ledger.Config) { c.Sender, c.Sending = s, 250*time.Millisecond })
	is.NoErr(l.Check(t.Context()))
	run(t, d.DB, `INSERT INTO coffeebuddy_outbox (app, source, event) VALUES ('coffeebuddy', '/damaged', 'damaged')`)
	for i := range 20 {
		for range 10 {
			d.put(t, made("/hangs/"+strconv.Itoa(i), "1"))
		}
	}
	for i := range 5 {
		d.put(t, made("/fine", strconv.Itoa(i)))
	}
	is.NoErr(l.Check(t.Context()))
	const all = "/fine0 /fine1 /fine2 /fine3 /fine4"
	eventually(t, func() bool { return s.sent() == all })
	eventually(t, func() bool {
		return one[int](t, d.DB, `SELECT count(*) FROM coffeebuddy_outbox WHERE source = '/fine'`) == 0
	})
	is.Equal(s.sent(), all)
}

// A hanging sender takes what is of the source /fine, and of others nothing in time.
type hanging struct{ sender }

func (s *hanging) Send(ctx context.Context, e event.Event) error {
	if e.Source() != "/fine" {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.sender.Send(ctx, e)
}

// TestOutboxOfASlowSink: what was sent before the time of a batch is over is not sent again.
func TestOutboxOfASlowSink(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	s := new(slow)
	l := d.ledger(t, func(c *ledger.Config) { c.Sender, c.Sending = s, 250*time.Millisecond })
	is.NoErr(l.Check(t.Context()))
	for i := range 6 {
		d.put(t, made("/a", strconv.Itoa(i)))
	}
	is.NoErr(l.Check(t.Context()))
	eventually(t, func() bool { return s.sent() == "/a0 /a1 /a2 /a3 /a4 /a5" })
	eventually(t, func() bool { return one[int](t, d.DB, `SELECT count(*) FROM coffeebuddy_outbox`) == 0 })
	is.Equal(s.sent(), "/a0 /a1 /a2 /a3 /a4 /a5")
}

// TestOutboxWithAShortDeadline: the sink has its time, whatever receivers have.
func TestOutboxWithAShortDeadline(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	s := &sender{fail: func(event.Event) error {
		time.Sleep(200 * time.Millisecond)
		return nil
	}}
	l := d.ledger(t, func(c *ledger.Config) { c.Sender, c.Receiver = s, 50*time.Millisecond })
	is.NoErr(l.Check(t.Context()))
	for i := range 3 {
		d.put(t, made("/a", strconv.Itoa(i)))
	}
	is.NoErr(l.Check(t.Context()))
	eventually(t, func() bool { return one[int](t, d.DB, `SELECT count(*) FROM coffeebuddy_outbox`) == 0 })
	is.Equal(s.sent(), "/a0 /a1 /a2")
}

// A slow sender takes two events in the time of a batch.
type slow struct {
	sender
	calls atomic.Int64
}

func (s *slow) Send(ctx context.Context, e event.Event) error {
	if s.calls.Add(1)%3 == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.sender.Send(ctx, e)
}

// TestRotation: claims go on, and a transaction that is under way is not cut.
func TestRotation(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	suffix := strings.TrimPrefix(d.name, "test_")
	for _, user := range []string{"first", "second"} {
		run(t, d.DB, fmt.Sprintf(`CREATE ROLE %s_%s LOGIN SUPERUSER PASSWORD '%s'`, user, suffix, password))
	}
	is.NoErr(d.ledger(t).Check(t.Context())) // whose user owns the tables
	var user atomic.Value
	user.Store("first_" + suffix)
	var refused atomic.Int64
	l := d.ledger(t, func(c *ledger.Config) {
		c.Credentials = func(_ context.Context, bad ledger.Credentials) (ledger.Credentials, error) {
			if bad.User != "" {
				refused.Add(1)
				user.Store("second_" + suffix)
			}
			return ledger.Credentials{User: user.Load().(string), Password: password}, nil
		}
	})
	run(t, d.DB, `CREATE TABLE effect (id text)`)
	r := request("long")
	r.Transactional = true
	claim, err := l.Claim(t.Context(), r)
	is.NoErr(err)
	ctx := claim.Context(t.Context())
	tx, err := ledger.Tx(ctx)
	is.NoErr(err)
	user.Store("second_" + suffix)
	_, err = l.Claim(t.Context(), request("1"))
	is.NoErr(err)
	_, err = tx.ExecContext(ctx, `INSERT INTO effect SELECT current_user`)
	is.NoErr(err)
	is.NoErr(claim.Settle(t.Context(), nil))
	is.Equal(one[string](t, d.DB, `SELECT id FROM effect`), "first_"+suffix)
	eventually(t, func() bool {
		return one[int](t, d.DB, `SELECT count(*) FROM pg_stat_activity WHERE usename = $1`, "first_"+suffix) == 0
	})

	user.Store("first_" + suffix) // of which the database will say that there is none: revoked
	run(t, d.DB, fmt.Sprintf(`DROP ROLE first_%s`, suffix))
	_, err = l.Claim(t.Context(), request("2"))
	is.NoErr(err)
	is.Equal(refused.Load(), int64(1))
}

// TestCheck: each thing that can be wrong has one reason.
func TestCheck(t *testing.T) {
	t.Parallel()
	role := func(d database) string { return "role_" + d.name }
	for _, test := range []struct {
		when   string
		sql    string // <role> and <database> stand for names
		config func(d database, c *ledger.Config)
		want   fault.Reason
	}{
		{when: "the tables can be made", want: ""},
		{when: "the tables are there", sql: ledger.Schema, want: ""},
		{
			"the user may not make them", `CREATE ROLE "<role>" LOGIN PASSWORD '` + password + `'`,
			func(d database, c *ledger.Config) { c.Credentials = as(role(d)) }, fault.Denied,
		},
		{
			"the user may use them and make none", ledger.Schema + `; CREATE ROLE "<role>" LOGIN PASSWORD '` + password + `'; GRANT SELECT, INSERT, UPDATE, DELETE ON coffeebuddy_ledger, coffeebuddy_outbox TO "<role>"`,
			func(d database, c *ledger.Config) { c.Credentials = as(role(d)) }, "",
		},
		{
			"the user may only read", ledger.Schema + `; CREATE ROLE "<role>" LOGIN PASSWORD '` + password + `'; GRANT SELECT ON coffeebuddy_ledger, coffeebuddy_outbox TO "<role>"`,
			func(d database, c *ledger.Config) { c.Credentials = as(role(d)) }, fault.Denied,
		},
		{
			"a user with an end would own them", "",
			func(_ database, c *ledger.Config) { c.Dynamic = true }, fault.Misconfigured,
		},
		{
			"a user with an end becomes their owner", `CREATE ROLE "<role>" LOGIN PASSWORD '` + password + `' IN ROLE owner; ALTER ROLE "<role>" SET role = owner`,
			func(d database, c *ledger.Config) { c.Credentials, c.Dynamic = as(role(d)), true }, "",
		},
		{when: "another table has the name", sql: `CREATE TABLE coffeebuddy_ledger (id int)`, want: fault.BadResponse},
		{when: "the tables are newer", sql: ledger.Schema + `; COMMENT ON TABLE coffeebuddy_ledger IS 'coffeebuddy ledger, version 2'`, want: fault.BadResponse},
		{when: "the outbox is missing", sql: ledger.Schema + `; DROP TABLE coffeebuddy_outbox`, want: fault.Denied},
		{when: "the database is read-only", sql: `ALTER DATABASE "<database>" SET default_transaction_read_only = on`, want: fault.Unavailable},
		{"there is no such user", "", func(_ database, c *ledger.Config) { c.Credentials = as("nobody") }, fault.Denied},
		{"there is no such database", "", func(_ database, c *ledger.Config) { c.URL = strings.Replace(c.URL, "/test_", "/missing_", 1) }, fault.Misconfigured},
		{"nobody listens", "", func(_ database, c *ledger.Config) { c.URL = "postgres://127.0.0.1:1/test?sslmode=disable" }, fault.Refused},
		{"the name is none", "", func(_ database, c *ledger.Config) { c.URL = "postgres://missing.invalid/test?sslmode=disable" }, fault.DNS},
		{"the server has no TLS", "", func(_ database, c *ledger.Config) { c.URL, _, _ = strings.Cut(c.URL, "?") }, fault.TLS},
		{"Vault has no credentials", "", func(_ database, c *ledger.Config) {
			c.Credentials = func(context.Context, ledger.Credentials) (ledger.Credentials, error) {
				return ledger.Credentials{}, fault.New(fault.Sealed, "Vault is sealed")
			}
		}, fault.Sealed},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is, d := is.New(t), newDatabase(t)
			run(t, d.DB, strings.NewReplacer("<role>", role(d), "<database>", d.name).Replace(test.sql))
			l := d.ledger(t, func(c *ledger.Config) {
				if test.config != nil {
					test.config(d, c)
				}
			})
			err := l.Check(t.Context())
			is.Equal(fault.ReasonOf(err), test.want)
			_, claimErr := l.Claim(t.Context(), request("1"))
			is.Equal(claimErr == nil, test.want == "")
			if err != nil {
				is.True(!strings.Contains(err.Error(), password) && !strings.Contains(err.Error(), d.name))
				is.True(!strings.Contains(claimErr.Error(), password))
			}
		})
	}
}

// TestFullDisk: a claim fails, and is made once there is room. What the ledger tells of it is
// the code alone.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	l := d.ledger(t)
	is.NoErr(l.Check(t.Context()))
	run(t, d.DB, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = 'disk_full'; END $$`)
	run(t, d.DB, `CREATE TRIGGER full_disk BEFORE INSERT ON coffeebuddy_ledger EXECUTE FUNCTION full_disk()`)
	_, err := l.Claim(t.Context(), request("1"))
	is.Equal(fault.ReasonOf(err), fault.Unavailable)
	is.True(strings.Contains(err.Error(), "53100") && !strings.Contains(err.Error(), "canary"))
	is.Equal(series(t, l, "coffeebuddy_ledger_claims_total", "failed"), 1.0)
	run(t, d.DB, `DROP TRIGGER full_disk ON coffeebuddy_ledger`)
	_, err = l.Claim(t.Context(), request("1"))
	is.NoErr(err)
}

// TestPodsThatStartTogether make the tables once.
func TestPodsThatStartTogether(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := d.ledger(t).Claim(t.Context(), request(strconv.Itoa(i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestReplyThatIsTooLarge: its event is remembered, and the duplicate gets no reply.
func TestReplyThatIsTooLarge(t *testing.T) {
	t.Parallel()
	is, d := is.New(t), newDatabase(t)
	effects := 0
	receive := func(_ context.Context, e event.Event) (*event.Event, error) {
		effects++
		reply := made("/bar", "reply")
		return &reply, reply.SetData("text/plain", strings.Repeat("x", len(e.ID())<<10))
	}
	for _, test := range []struct {
		id   string
		kept bool
	}{{"1", true}, {strings.Repeat("x", 65), false}} {
		for i := range 2 {
			e := engine(t, d.ledger(t), nil)
			is.NoErr(e.On("coffee.ordered", receive, events.Deduplicate(time.Hour)))
			v := e.Dispatch(t.Context(), ordered(test.id))
			is.Equal(v.Reply != nil, i == 0 || test.kept)
			is.Equal(v.Outcome == events.Duplicate, i == 1)
		}
	}
	is.Equal(effects, 2)
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "postgres://", "postgres://user:canary@host/db", "postgres://canary@host/db", "mysql://host/canary", "postgres://host", "postgres://host/",
		"postgres://host/canary?sslmode=prefer", "postgres://host:canary/db", "postgres://host:70000/canary",
	} {
		is := is.New(t)
		_, err := ledger.New(ledger.Config{URL: url, Credentials: as("owner")})
		is.True(err != nil)
		is.True(!strings.Contains(err.Error(), "canary"))
	}
	_, err := ledger.New(ledger.Config{URL: "postgres://host/db"})
	is.New(t).True(err != nil)
}

// TestCredentialsAreNeverShown by what prints or logs them.
func TestCredentialsAreNeverShown(t *testing.T) {
	t.Parallel()
	is, c := is.New(t), ledger.Credentials{User: "canary", Password: "canary"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		is.Equal(fmt.Sprintf(format, c), "redacted")
	}
}
