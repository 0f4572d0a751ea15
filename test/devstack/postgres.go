package devstack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PostgresOptions say what kind of PostgreSQL to start. The zero value is one on a free loopback port, without TLS.
type PostgresOptions struct {
	Port     int       // the loopback port to listen on, or the next free one after it; 0: any free one
	TLS      bool      // accept TLS, with a private certificate authority, besides plain connections
	Settings []string  // of postgresql.conf, as name=value
	Progress io.Writer // where a taken port is told about; nil: nowhere

	reserved bool // Port has been reserved already
}

// Postgres is a running PostgreSQL with a database named coffeebuddy. It keeps its data over restarts.
type Postgres struct {
	*Process

	URL                 string // of the database, without a user and a password
	Host                string // an IP address
	Port                int
	CAFile, WrongCAFile string // with TLS: who signed its certificate, and an authority of the same name that did not

	// Superuser and its password may do anything. User owns the database and no more.
	Superuser, User                 string
	SuperuserPassword, UserPassword Secret

	psql string
}

// PostgresDatabase is the name of the database of a Postgres.
const PostgresDatabase = "coffeebuddy"

// ErrNoPostgres is what StartPostgres fails with where PostgreSQL is not installed. It is not built from source: Linux distributions
// have it.
var ErrNoPostgres = errors.New("postgresql is not installed (Debian: apt-get install --no-install-recommends postgresql)")

// StartPostgres starts a PostgreSQL with a folder of its own. It is closed when ctx ends. As PostgreSQL refuses to run as root, root
// starts it as the user postgres, or else nobody.
func StartPostgres(ctx context.Context, options PostgresOptions) (*Postgres, error) {
	return inState(ctx, startPostgres, options)
}

// startPostgres starts a PostgreSQL in dir, which is removed with it; on failure its caller has to.
func startPostgres(ctx context.Context, dir *state, options PostgresOptions) (*Postgres, error) {
	bin, err := postgresFolder()
	if err != nil {
		return nil, err
	}
	owner, err := unprivileged()
	if err != nil {
		return nil, fmt.Errorf("find a user to run postgres as: %w", err)
	}
	port := options.Port
	if !options.reserved {
		if port, err = dir.takePort(ctx, "PostgreSQL", defaultHost, port, orDiscard(options.Progress)); err != nil {
			return nil, err
		}
	}
	folder, err := dir.outside("postgres", owner)
	if err != nil {
		return nil, fmt.Errorf("create the data folder of postgres: %w", err)
	}
	p := &Postgres{
		Host: defaultHost, Port: port, psql: filepath.Join(bin, "psql"),
		URL:       postgresURL(port),
		Superuser: "postgres", SuperuserPassword: randomSecret(),
		User: PostgresDatabase, UserPassword: randomSecret(),
	}
	data := filepath.Join(folder, "data")
	if err := p.initialize(ctx, dir, bin, data, owner); err != nil {
		return nil, err
	}
	settings := append([]string{
		"listen_addresses=" + defaultHost, "port=" + strconv.Itoa(port), "unix_socket_directories=", "fsync=off",
	}, options.Settings...)
	if options.TLS {
		certificates, err := newCertificates(dir, defaultHost)
		if err != nil {
			return nil, err
		}
		for from, name := range map[string]string{certificates.cert: "server.crt", certificates.key: "server.key"} {
			if err := copyFor(owner, from, filepath.Join(data, name)); err != nil {
				return nil, fmt.Errorf("give postgres its certificate: %w", err)
			}
		}
		settings = append(settings, "ssl=on")
		p.CAFile, p.WrongCAFile = certificates.ca, certificates.wrongCA
		p.URL = strings.Replace(p.URL, "sslmode=disable", "sslmode=verify-full", 1)
	}
	args := []string{"-D", data}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	p.Process, err = StartProcess(ctx, Command{
		Name: "postgres", Path: filepath.Join(bin, "postgres"), Args: args, Env: plainEnvironment(), Dir: folder, Log: dir.file("postgres.log"),
		Ready: p.answers, keepLog: true, cleanup: dir.remove, owner: owner,
		stopSignal: syscall.SIGINT, // SIGTERM would wait for clients to leave
	})
	if err != nil {
		return nil, err
	}
	if err := p.createDatabase(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// postgresURL returns the URL of the database, without a user and a password.
func postgresURL(port int) string {
	return fmt.Sprintf("postgres://%s/%s?sslmode=disable", net.JoinHostPort(defaultHost, strconv.Itoa(port)), PostgresDatabase)
}

// initialize makes an empty cluster, in which passwords are needed even on loopback.
func (p *Postgres) initialize(ctx context.Context, dir *state, bin, data string, owner *syscall.Credential) error {
	passwordFile := filepath.Join(filepath.Dir(data), "password")
	if err := os.WriteFile(passwordFile, []byte(p.SuperuserPassword.Reveal()), 0o600); err != nil {
		return fmt.Errorf("write the password of postgres: %w", err)
	}
	defer os.Remove(passwordFile)
	if err := chown(passwordFile, owner); err != nil {
		return err
	}
	return runToEnd(ctx, Command{
		Name: "initdb", Path: filepath.Join(bin, "initdb"), Env: plainEnvironment(), Dir: filepath.Dir(data), Log: dir.file("initdb.log"),
		Args:    []string{"-D", data, "-U", p.Superuser, "--pwfile=" + passwordFile, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"},
		keepLog: true, owner: owner,
	})
}

func (p *Postgres) createDatabase(ctx context.Context) error {
	user := fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", p.User, p.UserPassword.Reveal()) // the password is hexadecimal
	for _, statement := range []string{user, "CREATE DATABASE " + PostgresDatabase + " OWNER " + p.User} {
		if _, err := p.query(ctx, "postgres", statement); err != nil {
			return fmt.Errorf("create the database: %w", err)
		}
	}
	return nil
}

// answers returns nil once the superuser can connect.
func (p *Postgres) answers(ctx context.Context) error {
	_, err := p.query(ctx, "postgres", "SELECT 1")
	return err
}

// Query runs statements in the database as the superuser, and returns what psql prints: a line for each row, columns separated
// by |.
func (p *Postgres) Query(ctx context.Context, statements string) (string, error) {
	return p.query(ctx, PostgresDatabase, statements)
}

func (p *Postgres) query(ctx context.Context, database, statements string) (string, error) {
	psql := exec.CommandContext(ctx, p.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
		"-h", p.Host, "-p", strconv.Itoa(p.Port), "-U", p.Superuser, "-d", database)
	psql.Env = append(plainEnvironment(), "PGPASSWORD="+p.SuperuserPassword.Reveal(), "PGCONNECT_TIMEOUT=5")
	psql.Stdin = strings.NewReader(statements) // not an argument: it may hold a password
	var out, failed bytes.Buffer
	psql.Stdout, psql.Stderr = &out, &failed
	if err := psql.Run(); err != nil {
		return "", fmt.Errorf("run psql: %w: %s", err, strings.TrimSpace(failed.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// postgresFolder returns the folder of PostgreSQL's programs: Debian keeps those of the server off the PATH, in a folder for each version.
func postgresFolder() (string, error) {
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(folders, func(a, b string) int { return cmp.Compare(postgresVersion(b), postgresVersion(a)) })
	if path, err := exec.LookPath("postgres"); err == nil {
		folders = append(folders, filepath.Dir(path))
	}
	for _, folder := range folders {
		if exists(filepath.Join(folder, "postgres")) && exists(filepath.Join(folder, "initdb")) && exists(filepath.Join(folder, "psql")) {
			return folder, nil
		}
	}
	return "", ErrNoPostgres
}

func postgresVersion(folder string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder))) // 0 for what is no number
	return version
}

// DatabaseRole is the role that ConnectPostgres makes: Vault gives out users of the database at database/creds/DatabaseRole.
const DatabaseRole = "coffeebuddy"

// DatabaseOptions say how long the users live that Vault's database secrets engine makes.
type DatabaseOptions struct {
	TTL, MaxTTL time.Duration // 0: Vault's defaults, 32 days
}

// ConnectPostgres has Vault make users of a PostgreSQL: it mounts the database secrets engine at database/ and writes DatabaseRole, whose
// users may do what the database's owner may. Policy lets them be read, and Vault's default policy lets their leases be renewed.
func (v *Vault) ConnectPostgres(ctx context.Context, p *Postgres, options DatabaseOptions) error {
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "sys/mounts/database", map[string]string{"type": "database"}, nil); err != nil {
		return fmt.Errorf("mount the database secrets engine: %w", err)
	}
	connection := map[string]any{
		"plugin_name":    "postgresql-database-plugin",
		"allowed_roles":  []string{"*"},
		"connection_url": fmt.Sprintf("postgresql://{{username}}:{{password}}@%s/%s?sslmode=prefer", net.JoinHostPort(p.Host, strconv.Itoa(p.Port)), PostgresDatabase),
		"username":       p.Superuser,
		"password":       p.SuperuserPassword.Reveal(),
	}
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "database/config/coffeebuddy", connection, nil); err != nil {
		return fmt.Errorf("connect vault to postgres: %w", err)
	}
	return v.WriteDatabaseRole(ctx, p, DatabaseRole, options)
}

// WriteDatabaseRole writes a role of the database secrets engine. Its users are members of the database's owner.
func (v *Vault) WriteDatabaseRole(ctx context.Context, p *Postgres, name string, options DatabaseOptions) error {
	role := map[string]any{
		"db_name": "coffeebuddy",
		"creation_statements": []string{
			`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE ` + p.User + `;`,
			`ALTER ROLE "{{name}}" SET ROLE ` + p.User + `;`, // so that all users own what one of them makes
		},
		"revocation_statements": []string{
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';`,
			`DROP ROLE IF EXISTS "{{name}}";`,
		},
		"default_ttl": seconds(options.TTL),
		"max_ttl":     seconds(options.MaxTTL),
	}
	if err := v.Call(ctx, v.RootToken, http.MethodPost, "database/roles/"+name, role, nil); err != nil {
		return fmt.Errorf("write database role %s: %w", name, err)
	}
	return nil
}
