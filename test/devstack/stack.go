// Package devstack runs the real servers that the function depends on, without containers: a HashiCorp Vault, an Ory Hydra and,
// where it is installed, a Prometheus that scrapes the function. Command devstack is made of it; tests use it directly:
//
//	vault, err := devstack.StartVault(ctx, devstack.VaultOptions{})
//	…
//	defer vault.Close()
//
// Servers are child processes with ports and a folder of their own. They can be sealed, frozen, stopped and broken in the ways
// real ones are. They end with Close, with the context they were started with, or with this process, even if that is killed.
//
// Vault and Hydra are built from source when they are first needed, which takes minutes, and then kept in the user's cache
// directory. This package does not hold fakes, nor checks of the function: those belong to the tests that use it.
package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Options say how to start a Stack. The zero value is one on free loopback ports.
type Options struct {
	Host     string    // the address Vault and Hydra listen on; empty: 127.0.0.1. Prometheus stays on 127.0.0.1
	Ports    Ports     // what the servers should listen on
	Progress io.Writer // where builds and taken ports are told about; nil: nowhere
}

// Ports are the TCP ports to prefer: of one that is taken, the next free one is used. 0 stands for any free port.
type Ports struct {
	Vault, HydraPublic, HydraAdmin, Prometheus, Postgres, Function int
}

// UsualPorts are those that everybody expects these servers on.
func UsualPorts() Ports {
	return Ports{Vault: 8200, HydraPublic: 4444, HydraAdmin: 4445, Prometheus: 9090, Postgres: 5432, Function: 8080}
}

// Stack is everything the function needs to get ready.
type Stack struct {
	Vault      *Vault
	Hydra      *Hydra
	Prometheus *Prometheus // nil where it is not installed
	Postgres   *Postgres   // nil where it is not installed

	FunctionPort int    // where the function should listen: free when the stack started, and scraped by Prometheus
	EnvFile      string // a shell script with the exports for the function; only its owner can read it

	dir      *state
	options  Options
	progress io.Writer
	issuer   *Issuer // who signed the function's service account token
	jwtFile  string
	ledger   string // the URL of the database; empty where PostgreSQL is not installed
}

// Start builds what is missing, starts the servers and fills them. The stack is closed when ctx ends.
func Start(ctx context.Context, options Options) (*Stack, error) {
	if err := Build(ctx, orDiscard(options.Progress)); err != nil {
		return nil, err
	}
	s, err := Prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Prepare reserves the ports and writes what the function needs, so that the function can be started before the servers. The caller closes
// the stack.
func Prepare(ctx context.Context, options Options) (*Stack, error) {
	dir, err := newState(ctx)
	if err != nil {
		return nil, err
	}
	s := &Stack{dir: dir, options: options, progress: orDiscard(options.Progress)}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stack) prepare(ctx context.Context) (err error) {
	s.options.Host = cmp.Or(s.options.Host, defaultHost)
	ports := &s.options.Ports
	if s.FunctionPort, err = s.dir.takePort(ctx, "the function", "0.0.0.0", ports.Function, s.progress); err != nil {
		return err
	}
	if ports.Vault, err = s.dir.takePort(ctx, "Vault", s.options.Host, ports.Vault, s.progress); err != nil {
		return err
	}
	if ports.HydraPublic, ports.HydraAdmin, err = takeHydraPorts(ctx, s.dir, s.options.Host, ports.HydraPublic, ports.HydraAdmin, s.progress); err != nil {
		return err
	}
	if _, err := postgresFolder(); err == nil {
		if ports.Postgres, err = s.dir.takePort(ctx, "PostgreSQL", defaultHost, ports.Postgres, s.progress); err != nil {
			return err
		}
		s.ledger = postgresURL(ports.Postgres)
	}
	if s.issuer, err = NewIssuer(); err != nil {
		return err
	}
	s.jwtFile = s.dir.file("service-account-token")
	if err := os.WriteFile(s.jwtFile, []byte(s.issuer.Token(serviceAccountTokenLife).Reveal()), 0o600); err != nil {
		return fmt.Errorf("write the service account token: %w", err)
	}
	return s.writeEnvFile()
}

// serviceAccountTokenLife is longer than anybody runs a stack: no kubelet replaces the token here.
const serviceAccountTokenLife = 365 * 24 * time.Hour

// Start starts the servers of a prepared stack, and fills them. It builds those first that are missing. From then on the stack is closed
// when ctx ends.
func (s *Stack) Start(ctx context.Context) (err error) {
	if err := Build(ctx, s.progress); err != nil {
		return err
	}
	dir, ports := s.dir.shared(), s.options.Ports
	s.Vault, err = startVault(ctx, dir, VaultOptions{Host: s.options.Host, Port: ports.Vault, Progress: s.progress, reserved: true})
	if err != nil {
		return err
	}
	if err := s.letIn(ctx); err != nil {
		return err
	}
	if err := s.startPostgres(ctx, dir); err != nil {
		return err
	}
	s.Hydra, err = startHydra(ctx, dir, HydraOptions{
		Host: s.options.Host, PublicPort: ports.HydraPublic, AdminPort: ports.HydraAdmin, Progress: s.progress, reserved: true,
	})
	if err != nil {
		return err
	}
	s.Prometheus, err = startPrometheus(ctx, dir, PrometheusOptions{
		Port: ports.Prometheus, Progress: s.progress,
		Target: net.JoinHostPort(defaultHost, strconv.Itoa(s.FunctionPort)),
	})
	if errors.Is(err, ErrNoPrometheus) {
		fmt.Fprintf(s.progress, "prometheus: skipped: %v\n", err)
	} else if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = s.Close() }) // whoever wants to know the error calls Close
	return s.writeEnvFile()
}

func (s *Stack) startPostgres(ctx context.Context, dir *state) (err error) {
	if s.ledger == "" {
		fmt.Fprintf(s.progress, "postgresql: skipped: %v\n", ErrNoPostgres)
		return nil
	}
	s.Postgres, err = startPostgres(ctx, dir, PostgresOptions{Port: s.options.Ports.Postgres, Progress: s.progress, reserved: true})
	if err != nil {
		return err
	}
	return s.Vault.ConnectPostgres(ctx, s.Postgres, DatabaseOptions{TTL: time.Hour, MaxTTL: 24 * time.Hour})
}

// letIn lets the function log in to Vault with its service account token.
func (s *Stack) letIn(ctx context.Context) error {
	if err := s.Vault.EnableAuth(ctx, "jwt", authMount); err != nil {
		return err
	}
	if err := s.Vault.TrustIssuer(ctx, authMount, s.issuer); err != nil {
		return err
	}
	return s.Vault.WriteJWTRole(ctx, authMount, role, RoleOptions{})
}

// Where and as what the function logs in.
const (
	authMount = "jwt"
	role      = "coffeebuddy"
)

// Env returns the variables that the function needs, as NAME=value. None is a secret: the function logs in with a token in a file.
func (s *Stack) Env() []string {
	url := func(port int) string {
		return "http://" + net.JoinHostPort(urlHost(s.options.Host), strconv.Itoa(port))
	}
	env := []string{
		"VAULT_ADDR=" + url(s.options.Ports.Vault),
		"VAULT_ROLE=" + role,
		"VAULT_AUTH_MOUNT=" + authMount,
		"VAULT_JWT_FILE=" + s.jwtFile,
		"ORY_BASE_URL=" + url(s.options.Ports.HydraAdmin),
		"PORT=" + strconv.Itoa(s.FunctionPort),
		"COFFEEBUDDY_SLACK_SECRET=secret/coffeebuddy/slack#signing_secret",
	}
	if s.ledger != "" {
		env = append(env, "COFFEEBUDDY_LEDGER="+s.ledger, "COFFEEBUDDY_LEDGER_SECRET=database/creds/"+DatabaseRole)
	}
	return env
}

// writeEnvFile writes the function's variables and, once Hydra runs, those that get an access token for its events.
func (s *Stack) writeEnvFile() error {
	variables := s.Env()
	if s.Hydra != nil {
		variables = append(variables,
			"HYDRA_PUBLIC_URL="+s.Hydra.PublicURL,
			"HYDRA_CLIENT_ID="+s.Hydra.Client.ID,
			"HYDRA_CLIENT_SECRET="+s.Hydra.Client.Secret.Reveal(),
		)
	}
	var script strings.Builder
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Fprintf(&script, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	s.EnvFile = s.dir.file("env")
	if err := os.WriteFile(s.EnvFile, []byte(script.String()), 0o600); err != nil {
		return fmt.Errorf("write the exports: %w", err)
	}
	return nil
}

// Close ends all servers and deletes their data and logs. It may be called again.
func (s *Stack) Close() error {
	var errs []error
	if s.Prometheus != nil {
		errs = append(errs, s.Prometheus.Close())
	}
	if s.Hydra != nil {
		errs = append(errs, s.Hydra.Close())
	}
	if s.Postgres != nil {
		errs = append(errs, s.Postgres.Close())
	}
	if s.Vault != nil {
		errs = append(errs, s.Vault.Close())
	}
	return errors.Join(append(errs, s.dir.remove())...)
}
