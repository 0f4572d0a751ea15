// Command vault is a small real Vault for development and tests: HashiCorp's core and HTTP API, KV secrets, token
// authentication, the auth methods jwt and kubernetes, the database secrets engine for PostgreSQL, and audit devices; without the
// command line, the UI, external plugins, clustering, and unsealing by a cloud's keys.
//
// It starts as it finds its storage: uninitialized when that is empty, else sealed. Initializing and unsealing are done over
// its API. It is not for production: storage is memory or plain files, and memory is not locked.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/audit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

// run serves Vault until ctx ends, then seals it and closes the listener.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("vault", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8200", "`address` to listen on")
	storage := flags.String("storage", "", "`folder` to keep the data in; empty: in memory")
	cert := flags.String("tls-cert", "", "PEM `file` with the server's certificate; empty: plain HTTP")
	key := flags.String("tls-key", "", "PEM `file` with the key of -tls-cert")
	if err := flags.Parse(args); err != nil {
		return err
	}

	log := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Info, Output: os.Stderr})
	core, err := newCore(*storage, log)
	if err != nil {
		return err
	}
	listener, err := newListener(*listen, *cert, *key)
	if err != nil {
		return err
	}
	return serve(ctx, core, listener, log)
}

// newCore builds a Vault on the folder storage, or in memory when that is empty. KV secrets, cubbyholes and token
// authentication are part of every core, what else is compiled in is in plugins.go.
func newCore(storage string, log hclog.Logger) (*vault.Core, error) {
	physical, err := newStorage(storage, log.Named("storage"))
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           physical,
		Logger:             log,
		DisableMlock:       true,
		ClusterName:        "devstack",
		BuiltinRegistry:    plugins{},
		CredentialBackends: authMethods(),
		LogicalBackends:    secretsEngines(),
		AuditBackends: map[string]audit.Factory{
			"file":   audit.NewFileBackend,
			"socket": audit.NewSocketBackend,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("build core: %w", err)
	}
	return core, nil
}

func newStorage(folder string, log hclog.Logger) (physical.Backend, error) {
	if folder == "" {
		return inmem.NewInmem(nil, log)
	}
	return file.NewFileBackend(map[string]string{"path": folder}, log)
}

func newListener(address, cert, key string) (net.Listener, error) {
	if cert == "" {
		return net.Listen("tcp", address)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return tls.Listen("tcp", address, &tls.Config{
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"h2", "http/1.1"},
		MinVersion:   tls.VersionTLS12,
	})
}

// serve answers on listener until ctx ends. Open connections are then cut: whoever stops this server wants it gone.
func serve(ctx context.Context, core *vault.Core, listener net.Listener, log hclog.Logger) error {
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core:           core,
			ListenerConfig: &configutil.Listener{Address: listener.Addr().String()},
		}),
		ReadHeaderTimeout: 10 * time.Second, // as Vault's own server has it
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          log.StandardLogger(nil),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		stopped <- errors.Join(server.Close(), core.ShutdownWait())
	})
	log.Info("listening", "address", listener.Addr().String())
	err := server.Serve(listener)
	if stop() {
		return fmt.Errorf("serve: %w", err) // ctx has not ended: the listener broke
	}
	return <-stopped
}
