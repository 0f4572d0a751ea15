package e2e

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
	"coffeebuddy/test/devstack/stub"
)

// TestLedger: three functions on one PostgreSQL, with users that Vault makes. Events come two to
// four times each, as brokers deliver them, while functions are killed, leases are revoked, and
// the database is restarted and cut off. In the transaction each effect is there once, beside it
// at least once, and all deliveries of an event get the same response.
//
// COFFEEBUDDY_TEST_FULL=1 does it with 10,000 events, 30 kills, and 10 s without the database.
func TestLedger(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	number, kills, restarts, cut := 400, 6, 1, 2*time.Second
	if os.Getenv("COFFEEBUDDY_TEST_FULL") != "" {
		number, kills, restarts, cut = 10_000, 30, 2, 10*time.Second
	}
	postgres, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{})
	if errors.Is(err, devstack.ErrNoPostgres) {
		t.Skip(err)
	}
	is.NoErr(err)
	t.Cleanup(func() { closed(t, postgres.Close) })
	_, err = postgres.Query(t.Context(), "CREATE TABLE effect (id text); ALTER TABLE effect OWNER TO "+postgres.User)
	is.NoErr(err)
	p := startPlatform(t, devstack.VaultOptions{})
	is.NoErr(p.vault.ConnectPostgres(t.Context(), postgres, devstack.DatabaseOptions{TTL: 10 * time.Second, MaxTTL: 20 * time.Second}))
	gate, err := stub.StartGate(t.Context(), "127.0.0.1")
	is.NoErr(err)
	t.Cleanup(func() { _ = gate.Close() })
	network, err := stub.StartNetwork(t.Context(), "127.0.0.1", net.JoinHostPort(postgres.Host, strconv.Itoa(postgres.Port)))
	is.NoErr(err)
	t.Cleanup(func() { _ = network.Close() })
	program := filepath.Join(t.TempDir(), "gate")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./gate").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	functions := make([]*function, 3)
	for i := range functions {
		functions[i] = startProgram(t, program, p, "GATE_URL="+gate.URL, "COFFEEBUDDY_LEDGER_SECRET=database/creds/"+devstack.DatabaseRole,
			"COFFEEBUDDY_LEDGER="+strings.Replace(postgres.URL, net.JoinHostPort(postgres.Host, strconv.Itoa(postgres.Port)), network.Address, 1),
			"COFFEEBUDDY_EVENT_TIMEOUT=2s", "COFFEEBUDDY_CHECK_TIMEOUT=1s", "COFFEEBUDDY_EVENTS_IN_FLIGHT=64")
	}

	var done atomic.Int64
	disturbed := make(chan error, 1)
	go func() {
		disturbed <- disturb(t.Context(), disturbances{
			kills: kills, restarts: restarts, cut: cut, functions: functions, network: network, postgres: postgres, vault: p.vault,
			reached: func(part, of int) bool { return done.Load() >= int64(number*part/of) },
		})
	}()

	began := time.Now()
	slots := make(chan struct{}, 24)
	var all sync.WaitGroup
	for n := range number {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots; done.Add(1) }()
			kind := []string{"transaction", "plain"}[n%2]
			id := kind + "-" + strconv.Itoa(n)
			responses := make(chan string, 4)
			times := 2 + rand.IntN(3)
			for range times {
				go func() { responses <- delivered(t.Context(), functions, kind, id) }()
			}
			first := <-responses
			if !strings.HasPrefix(first, "200 ") || !strings.HasSuffix(first, " "+id) {
				t.Errorf("%s was answered %q", id, first)
			}
			for range times - 1 {
				again := <-responses
				if again != first && (kind == "transaction" || !strings.HasSuffix(again, " "+id)) {
					t.Errorf("%s was answered %q and %q", id, first, again)
				}
			}
		})
	}
	all.Wait()
	is.NoErr(<-disturbed)
	took := time.Since(began)
	counted, err := postgres.Query(t.Context(), "SELECT count(*), count(DISTINCT id) FROM effect")
	is.NoErr(err)
	half := strconv.Itoa(number / 2)
	is.Equal(counted, half+"|"+half) // in the transaction: none twice, none lost
	again := 0
	for n := 1; n < number; n += 2 {
		asked := gate.Asked("plain-" + strconv.Itoa(n))
		is.True(asked >= 1) // beside it: none lost
		again += asked - 1
	}
	users, err := postgres.Query(t.Context(), "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'")
	is.NoErr(err)
	t.Logf("%d events in %.0f s: in the transaction each effect is there once; beside it there are %d more than %s; users at the end: %s",
		number, took.Seconds(), again, half, users)
	for _, f := range functions {
		log, err := os.ReadFile(f.LogFile())
		is.NoErr(err)
		is.True(!strings.Contains(string(log), `"msg":"panic`))
		is.True(!strings.Contains(string(log), postgres.SuperuserPassword.Reveal()))
	}
}

// delivered delivers an event as a broker does, to one of the functions, until it is taken.
func delivered(ctx context.Context, functions []*function, kind, id string) string {
	last := "no response"
	for try := range 400 {
		f := functions[rand.IntN(len(functions))]
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, strings.NewReader("data of "+id))
		if err != nil {
			return err.Error()
		}
		request.Header = http.Header{
			"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Source": {"/shop"}, "Ce-Type": {"gate." + kind}, "Content-Type": {"text/plain"},
		}
		if response, err := f.client.Do(request); err == nil {
			body, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			last = strings.Join([]string{strconv.Itoa(response.StatusCode), response.Header.Get("Ce-Id"), response.Header.Get("Ce-Time"), string(body)}, " ")
			switch s := response.StatusCode; {
			case err != nil, s == 404, s == 408, s == 409, s == 429, s >= 500:
			default:
				return last
			}
		}
		pause(ctx, min(time.Duration(1+try)*20*time.Millisecond, 500*time.Millisecond))
	}
	return last
}

type disturbances struct {
	kills, restarts int
	cut             time.Duration
	functions       []*function
	network         *stub.Network
	postgres        *devstack.Postgres
	vault           *devstack.Vault
	reached         func(part, of int) bool
}

// disturb spreads what happens over the events.
func disturb(ctx context.Context, d disturbances) error {
	steps := d.kills + d.restarts + 3
	for step := range steps {
		for !d.reached(step, steps+1) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			pause(ctx, 5*time.Millisecond)
		}
		var err error
		switch {
		case step == steps/2:
			d.network.SetCut(true)
			pause(ctx, d.cut)
			d.network.SetCut(false)
		case step == steps/3 || step == 2*steps/3:
			err = d.vault.Call(ctx, d.vault.RootToken, http.MethodPut, "sys/leases/revoke-prefix/database/creds", struct{}{}, nil)
		case step%(steps/(d.restarts+1)) == 1 && d.restarts > 0:
			d.restarts--
			err = d.postgres.Restart(ctx)
		default:
			f := d.functions[rand.IntN(len(d.functions))]
			f.Kill()
			err = f.Start(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
