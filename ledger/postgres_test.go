package ledger_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"coffeebuddy/ledger"

	"github.com/lib/pq"
)

// postgres is a PostgreSQL server of the tests' own: on a free port of loopback, in a
// temporary directory, as a user that is not root, which PostgreSQL refuses to run as.
type postgres struct {
	bin, dir string
	port     int
	as       *syscall.Credential // nil for who runs the tests
	settings []string            // of postgresql.conf, as name=value
	clock    string              // of libfaketime, such as +1h; "" for the machine's
	server   *exec.Cmd
	output   bytes.Buffer
}

const password = "canary-password"

// server is the tests' server, nil where PostgreSQL is not installed.
var server *postgres //nolint:gochecknoglobals // TestMain's

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv(podVariable) != "" {
			return runPod()
		}
		var err error
		if server, err = start(); err != nil {
			fmt.Fprintln(os.Stderr, "start PostgreSQL:", err)
			return 1
		}
		defer server.remove()
		return m.Run()
	}())
}

// start starts a server, and returns nil if there is none to start.
func start(settings ...string) (*postgres, error) {
	bin := binaries()
	if bin == "" {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		return nil, err
	}
	p := &postgres{bin: bin, dir: dir, settings: settings}
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
		gid, _ := strconv.ParseUint(nobody.Gid, 10, 32)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return nil, err
		}
	}
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o644); err != nil {
		return nil, err
	}
	initdb := p.command("initdb", "-D", p.data(), "-U", "owner", "-A", "scram-sha-256", "--pwfile", secret, "--no-sync", "-E", "UTF8", "--locale", "C")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	return p, p.run()
}

// binaries returns the directory of the server's programs, "" for none.
func binaries() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // where Debian has it
	if len(found) == 0 {
		return ""
	}
	return filepath.Dir(slices.Max(found))
}

// faketime returns the library that gives a program another clock, "" for none.
func faketime() string {
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1") // where Debian has it
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(p.bin, name), args...)
	c.Dir = p.dir
	c.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGKILL}
	return c
}

// run runs the server until it takes connections.
func (p *postgres) run() error {
	p.server = p.command("postgres", "-D", p.data(), "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=60")
	for _, setting := range p.settings {
		p.server.Args = append(p.server.Args, "-c", setting)
	}
	if p.clock != "" {
		p.server.Env = append(p.server.Env, "LD_PRELOAD="+faketime(), "FAKETIME="+p.clock, "FAKETIME_DONT_FAKE_MONOTONIC=1")
	}
	p.server.Stderr = &p.output
	if err := p.server.Start(); err != nil {
		return err
	}
	db := p.open("owner", "postgres")
	defer db.Close()
	for began := time.Now(); ; {
		err := db.Ping()
		if err == nil {
			return nil
		}
		if time.Since(began) > 30*time.Second {
			return fmt.Errorf("%w: %s", err, p.output.String())
		}
	}
}

// stop stops the server as a restart does: connections are cut.
func (p *postgres) stop() {
	_ = p.server.Process.Signal(syscall.SIGINT)
	_ = p.server.Wait()
}

func (p *postgres) remove() {
	if p == nil {
		return
	}
	p.stop()
	_ = os.RemoveAll(p.dir)
}

func (p *postgres) open(user, database string) *sql.DB {
	c, err := pq.NewConnectorConfig(pq.Config{
		Host: "127.0.0.1", Port: uint16(p.port), User: user, Password: password, Database: database,
		SSLMode: "disable", ConnectTimeout: 5 * time.Second,
	})
	if err != nil {
		panic(err)
	}
	return sql.OpenDB(c)
}

// A database is one of the server's, for one test.
type database struct {
	name string
	*sql.DB
}

// newDatabase makes a database, or skips the test where there is no server.
func newDatabase(t testing.TB) database {
	t.Helper()
	if server == nil {
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	name := fmt.Sprintf("test_%d", time.Now().UnixNano())
	all := server.open("owner", "postgres")
	defer all.Close()
	run(t, all, `CREATE DATABASE `+name)
	db := server.open("owner", name)
	t.Cleanup(func() { _ = db.Close() })
	return database{name, db}
}

// run runs SQL.
func run(t testing.TB, db *sql.DB, text string) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), text); err != nil {
		t.Fatal(err)
	}
}

// one returns the one value of a query.
func one[T any](t *testing.T, db *sql.DB, query string, arguments ...any) (value T) {
	t.Helper()
	if err := db.QueryRowContext(context.Background(), query, arguments...).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func (d database) url() string {
	return fmt.Sprintf("postgres://127.0.0.1:%d/%s?sslmode=disable", server.port, d.name)
}

// as returns credentials of a user.
func as(user string) func(context.Context, ledger.Credentials) (ledger.Credentials, error) {
	return func(context.Context, ledger.Credentials) (ledger.Credentials, error) {
		return ledger.Credentials{User: user, Password: password}, nil
	}
}

// ledger returns a ledger of its own pool, as another process has.
func (d database) ledger(t *testing.T, change ...func(*ledger.Config)) *ledger.Ledger {
	t.Helper()
	config := ledger.Config{URL: d.url(), Credentials: as("owner"), Connections: 4}
	for _, f := range change {
		f(&config)
	}
	l, err := ledger.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = l.Close(ctx)
	})
	return l
}
