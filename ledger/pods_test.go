package ledger_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/handler"
	"coffeebuddy/internal/servertest"
	"coffeebuddy/ledger"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"
	"github.com/prometheus/client_golang/prometheus"
)

// podVariable is set where the tests' program is to be a pod. It holds a podConfig.
const podVariable = "COFFEEBUDDY_TEST_POD"

type podConfig struct{ Address, URL, Credentials string }

// runPod runs a function with two receivers that each have an effect in the database: one in
// the transaction of its event, and one beside it, as an effect elsewhere is.
func runPod() int {
	var c podConfig
	if err := json.Unmarshal([]byte(os.Getenv(podVariable)), &c); err != nil {
		return 2
	}
	l, err := ledger.New(ledger.Config{
		URL: c.URL, Timeout: time.Second, Receiver: time.Second, Connections: 4,
		Credentials: func(context.Context, ledger.Credentials) (ledger.Credentials, error) {
			text, err := os.ReadFile(c.Credentials)
			user, password, _ := strings.Cut(string(text), " ")
			return ledger.Credentials{User: user, Password: password}, err
		},
	})
	if err != nil {
		return 2
	}
	e, err := events.New(events.Config{Ledger: l, InFlight: 64, Timeout: time.Second})
	if err != nil {
		return 2
	}
	served := func(e event.Event) (*event.Event, error) {
		reply := event.New()
		reply.SetType("coffee.served")
		return &reply, reply.SetData("text/plain", e.Data())
	}
	var direct atomic.Pointer[sql.DB]
	err = errors.Join(
		e.On("coffee.transaction", func(ctx context.Context, e event.Event) (*event.Event, error) {
			tx, err := ledger.Tx(ctx)
			if err != nil {
				return nil, err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO effect VALUES ($1)`, e.ID()); err != nil {
				return nil, err
			}
			return served(e)
		}, events.Transactional(time.Hour)),
		e.On("coffee.plain", func(ctx context.Context, e event.Event) (*event.Event, error) {
			db := direct.Load()
			if db == nil {
				text, err := os.ReadFile(c.Credentials)
				if err != nil {
					return nil, err
				}
				user, password, _ := strings.Cut(string(text), " ")
				if db, err = sql.Open("postgres", strings.Replace(c.URL, "://", "://"+user+":"+password+"@", 1)); err != nil {
					return nil, err
				}
				db.SetMaxOpenConns(4)
				direct.Store(db)
			}
			if _, err := db.ExecContext(ctx, `INSERT INTO effect VALUES ($1)`, e.ID()); err != nil {
				direct.Store(nil) // the password may be another one
				return nil, err
			}
			return served(e)
		}, events.Deduplicate(time.Hour)),
	)
	if err != nil {
		return 2
	}
	h, err := handler.New(handler.Config{
		App: "coffeebuddy", Environment: "test", Version: "v1", Started: time.Now(), MetricsPath: "/metrics",
		Registry: prometheus.NewRegistry(), Events: e,
		Ready: func(context.Context) handler.Readiness { return handler.Readiness{Ready: true, JSON: []byte("{}")} },
	})
	if err != nil {
		return 2
	}
	return map[bool]int{true: 1, false: 0}[http.ListenAndServe(c.Address, h) != nil]
}

// pods are the processes of a function, and its database.
type pods struct {
	t      *testing.T
	mu     sync.Mutex
	config []podConfig
	run    []*exec.Cmd
	client *http.Client
}

// start starts a pod anew.
func (p *pods) start(i int) {
	config, err := json.Marshal(p.config[i])
	if err != nil {
		p.t.Error(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), podVariable+"="+string(config))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		p.t.Error(err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run[i] = c
}

func (p *pods) kill(i int) {
	p.mu.Lock()
	c := p.run[i]
	p.mu.Unlock()
	_ = c.Process.Kill()
	_ = c.Wait()
}

// deliver sends an event to a random pod until it is taken, as Knative's brokers do it: 404,
// 408, 409, 429, 5xx and no answer are tried again. It returns what the last answer was.
func (p *pods) deliver(kind, id string) (status int, answer string) {
	for try := range 400 {
		r, _ := http.NewRequest("POST", "http://"+p.config[rand.IntN(len(p.config))].Address+"/", strings.NewReader("data of "+id))
		for name, value := range map[string]string{
			"Ce-Specversion": "1.0", "Ce-Id": id, "Ce-Source": "/shop", "Ce-Type": "coffee." + kind, "Content-Type": "text/plain",
		} {
			r.Header.Set(name, value)
		}
		resp, err := p.client.Do(r)
		if err == nil {
			body, readErr := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			switch status = resp.StatusCode; {
			case readErr != nil, status == 404, status == 408, status == 409, status == 429, status >= 500:
			default:
				return status, resp.Header.Get("Ce-Id") + " " + resp.Header.Get("Ce-Time") + " " + string(body)
			}
		}
		pause := time.NewTimer(min(time.Duration(1+try)*20*time.Millisecond, 500*time.Millisecond))
		<-pause.C
	}
	return status, ""
}

// TestPodsThatDie: three processes of a function receive events, each delivered two to four
// times, while they are killed and the database is stopped, cut off, and given another
// password. In the transaction each effect comes once, beside it at least once, none is lost,
// and all deliveries of an event get the same answer. The database's clock is an hour ahead of
// the pods', where Debian's libfaketime is installed.
//
// COFFEEBUDDY_TEST_FULL=1 does it at the scale that docs/ledger.md tells of.
func TestPodsThatDie(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a quarter of a minute; make e2e runs it")
	}
	if binaries() == "" {
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	number, kills, restarts, cut := 600, 6, 1, 2*time.Second
	if os.Getenv("COFFEEBUDDY_TEST_FULL") != "" {
		number, kills, restarts, cut = 10_000, 30, 2, 10*time.Second
	}
	is := is.New(t)
	own, err := start()
	is.NoErr(err)
	defer own.remove()
	if faketime() != "" { // the database is an hour ahead of the pods
		own.stop()
		own.clock = "+1h"
		is.NoErr(own.run())
	}
	db := own.open("owner", "postgres")
	defer db.Close()
	ahead := one[float64](t, db, `SELECT extract(epoch FROM clock_timestamp())::float8`) - float64(time.Now().Unix())
	is.Equal(ahead > 3000, own.clock != "")
	run(t, db, `CREATE TABLE effect (id text); CREATE ROLE pod SUPERUSER LOGIN PASSWORD 'first'`)
	credentials := filepath.Join(t.TempDir(), "credentials")
	is.NoErr(os.WriteFile(credentials, []byte("pod first"), 0o600))
	network := newProxyTo(t, own.port)

	p := &pods{t: t, run: make([]*exec.Cmd, 3), client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	for i := range p.run {
		address := fmt.Sprintf("127.0.0.1:%d", servertest.FreePort(t))
		p.config = append(p.config, podConfig{address, fmt.Sprintf("postgres://127.0.0.1:%s/postgres?sslmode=disable", network.port), credentials})
		p.start(i)
		defer func() { p.kill(i) }()
	}

	var done atomic.Int64
	disturbed := make(chan struct{})
	go func() { // what happens, spread over the events
		defer close(disturbed)
		reach := func(part, of int) {
			eventually(t, func() bool { time.Sleep(time.Millisecond); return done.Load() >= int64(number*part/of) })
		}
		steps := kills + restarts + 2
		for step := range steps {
			reach(step, steps+1)
			switch {
			case step == steps/2:
				network.setCut(true)
				timer := time.NewTimer(cut)
				<-timer.C
				network.setCut(false)
			case step == steps/3:
				run(t, db, `ALTER ROLE pod PASSWORD 'second'`)
				_ = os.WriteFile(credentials, []byte("pod second"), 0o600)
				run(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pod'`)
			case step%(steps/(restarts+1)) == 1 && restarts > 0:
				restarts--
				own.stop()
				if err := own.run(); err != nil {
					t.Error(err)
				}
			default:
				i := rand.IntN(len(p.run))
				p.kill(i)
				p.start(i)
			}
		}
	}()

	began := time.Now()
	slots := make(chan struct{}, 24)
	var all sync.WaitGroup
	for n := range number {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots; done.Add(1) }()
			kind, id := "transaction", "t"+strconv.Itoa(n)
			if n%2 == 1 {
				kind, id = "plain", "p"+strconv.Itoa(n)
			}
			answers := make(chan string, 4)
			times := 2 + rand.IntN(3)
			for range times {
				go func() {
					status, answer := p.deliver(kind, id)
					if status != 200 || !strings.HasSuffix(answer, " data of "+id) {
						t.Errorf("%s was answered %d %q", id, status, answer)
					}
					answers <- answer
				}()
			}
			first := <-answers
			for range times - 1 {
				if again := <-answers; again != first && kind == "transaction" {
					t.Errorf("%s was answered %q and %q", id, first, again)
				}
			}
		})
	}
	all.Wait()
	<-disturbed
	twice := one[int](t, db, `SELECT count(*) FROM (SELECT FROM effect WHERE id LIKE 't%' GROUP BY id HAVING count(*) > 1) twice`)
	is.Equal(twice, 0) // in the transaction
	is.Equal(one[int](t, db, `SELECT count(DISTINCT id) FROM effect`), number)
	more := one[int](t, db, `SELECT count(*) FROM effect`) - number
	t.Logf("%d events in %.0f s on a database that is %.0f s ahead; in the transaction none had a second effect, beside it %d of %d had", number, time.Since(began).Seconds(), ahead, more, number/2)
	is.True(!bytes.Contains(own.output.Bytes(), []byte("PANIC")))
}
