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
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
)

// Options say how to start a Stack. The zero value is one on free loopback ports.
type Options struct {
	Host     string    // the address Vault and Hydra listen on; empty: 127.0.0.1. Prometheus stays on 127.0.0.1
	Ports    Ports     // what the servers should listen on
	Progress io.Writer // where builds and taken ports are told about; nil: nowhere
}

// Ports are the TCP ports to prefer: of one that is taken, the next free one is used. 0 stands for any free port.
type Ports struct {
	Vault, HydraPublic, HydraAdmin, Prometheus, Function int
}

// UsualPorts are those that everybody expects these servers on.
func UsualPorts() Ports {
	return Ports{Vault: 8200, HydraPublic: 4444, HydraAdmin: 4445, Prometheus: 9090, Function: 8080}
}

// Stack is everything the function needs to get ready.
type Stack struct {
	Vault      *Vault
	Hydra      *Hydra
	Prometheus *Prometheus // nil where it is not installed

	FunctionPort int    // where the function should listen: free when the stack started, and scraped by Prometheus
	EnvFile      string // a shell script with the exports for the function; only its owner can read it

	dir *state
}

// Start builds what is missing, starts the servers and fills them. The stack is closed when ctx ends.
func Start(ctx context.Context, options Options) (*Stack, error) {
	if err := Build(ctx, orDiscard(options.Progress)); err != nil {
		return nil, err
	}
	dir, err := newState(ctx)
	if err != nil {
		return nil, err
	}
	s := &Stack{dir: dir}
	if err := s.start(ctx, options); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	context.AfterFunc(ctx, func() { _ = s.Close() }) // who wants to know the error calls Close
	return s, nil
}

func (s *Stack) start(ctx context.Context, options Options) (err error) {
	progress, dir := orDiscard(options.Progress), s.dir.shared()
	if s.FunctionPort, err = s.dir.takePort(ctx, "the function", "0.0.0.0", options.Ports.Function, progress); err != nil {
		return err
	}
	s.Vault, err = startVault(ctx, dir, VaultOptions{Host: options.Host, Port: options.Ports.Vault, Progress: progress})
	if err != nil {
		return err
	}
	s.Hydra, err = startHydra(ctx, dir, HydraOptions{
		Host: options.Host, PublicPort: options.Ports.HydraPublic, AdminPort: options.Ports.HydraAdmin, Progress: progress,
	})
	if err != nil {
		return err
	}
	s.Prometheus, err = startPrometheus(ctx, dir, PrometheusOptions{
		Port: options.Ports.Prometheus, Progress: progress,
		Target: net.JoinHostPort(defaultHost, strconv.Itoa(s.FunctionPort)),
	})
	if errors.Is(err, ErrNoPrometheus) {
		fmt.Fprintf(progress, "prometheus: skipped: %v\n", err)
	} else if err != nil {
		return err
	}
	return s.writeEnvFile()
}

// Env returns the variables that the function needs, as NAME=value. They hold the token.
func (s *Stack) Env() []string {
	return []string{
		"VAULT_ADDR=" + s.Vault.URL,
		"VAULT_TOKEN=" + s.Vault.Token.Reveal(),
		"ORY_BASE_URL=" + s.Hydra.AdminURL,
		"PORT=" + strconv.Itoa(s.FunctionPort),
		"COFFEEBUDDY_SLACK_SECRET=secret/coffeebuddy/slack#signing_secret",
	}
}

// writeEnvFile writes the function's variables, and those that get an access token for its events.
func (s *Stack) writeEnvFile() error {
	var script strings.Builder
	for _, variable := range append(s.Env(),
		"HYDRA_PUBLIC_URL="+s.Hydra.PublicURL,
		"HYDRA_CLIENT_ID="+s.Hydra.Client.ID,
		"HYDRA_CLIENT_SECRET="+s.Hydra.Client.Secret.Reveal(),
	) {
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
	if s.Vault != nil {
		errs = append(errs, s.Vault.Close())
	}
	return errors.Join(append(errs, s.dir.remove())...)
}
