package ledger_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"coffeebuddy/events"
	"coffeebuddy/events/ledgertest"
	"coffeebuddy/internal/servertest"
	"coffeebuddy/ledger"

	"github.com/matryer/is"
)

// TestPgBouncer: behind a real one, in each of its modes that keep transactions together.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer" // where Debian has it
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("PgBouncer is not installed: apt-get install pgbouncer")
	}
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			is, d := is.New(t), newDatabase(t)
			port := strconv.Itoa(servertest.FreePort(t))
			dir, err := os.MkdirTemp("", "pgbouncer") //nolint:usetesting // another user must reach it
			is.NoErr(err)
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			users, ini := filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")
			is.NoErr(os.WriteFile(users, []byte(`"owner" "`+password+`"`+"\n"), 0o600))
			is.NoErr(os.WriteFile(ini, fmt.Appendf(nil, `[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = %s
default_pool_size = 8
ignore_startup_parameters = idle_in_transaction_session_timeout, statement_timeout
`, server.port, port, users, mode), 0o600))
			if server.as != nil {
				for _, name := range []string{dir, users, ini} {
					is.NoErr(os.Chown(name, int(server.as.Uid), int(server.as.Gid)))
				}
			}
			bouncer := exec.Command(path, ini)
			bouncer.SysProcAttr = &syscall.SysProcAttr{Credential: server.as, Pdeathsig: syscall.SIGKILL}
			is.NoErr(bouncer.Start())
			t.Cleanup(func() { _ = bouncer.Process.Kill(); _ = bouncer.Wait() })

			open := func(t *testing.T) *ledger.Ledger {
				return d.ledger(t, func(c *ledger.Config) { c.URL = "postgres://127.0.0.1:" + port + "/" + d.name + "?sslmode=disable" })
			}
			first := open(t)
			eventually(t, func() bool { return first.Check(t.Context()) == nil })
			run(t, d.DB, `CREATE TABLE effect (id text)`)
			for _, want := range []events.Outcome{events.Accepted, events.Duplicate} {
				e := engine(t, open(t), nil)
				is.NoErr(e.On("coffee.ordered", insertEffect, events.Transactional(time.Hour)))
				is.Equal(e.Dispatch(t.Context(), ordered("1")).Outcome, want)
				is.Equal(one[int](t, d.DB, `SELECT count(*) FROM effect`), 1)
			}
			if mode == "transaction" { // in the other each client holds a connection of the server's
				ledgertest.Run(t, func(t *testing.T) events.Ledger { return open(t) })
			}
		})
	}
}
