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
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
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

// version is the version of the Vault module in go.mod.
const version = "1.21.4"

// run does what the command of the same name does, as far as the devstack asks: version, and server with a configuration in JSON.
func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == "version" {
		fmt.Printf("Vault v%s (the devstack's)\n", version)
		return nil
	}
	if len(args) != 2 || args[0] != "server" || !strings.HasPrefix(args[1], "-config=") {
		return errors.New("usage: vault version, or vault server -config=file")
	}
	settings, err := load(strings.TrimPrefix(args[1], "-config="))
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	return runServer(ctx, settings)
}

// config is the part of Vault's configuration that the devstack writes.
type config struct {
	Storage struct {
		File struct {
			Path string `json:"path"` // empty: in memory
		} `json:"file"`
	} `json:"storage"`
	Listener struct {
		TCP struct {
			Address  string `json:"address"`
			CertFile string `json:"tls_cert_file"` // empty: plain HTTP
			KeyFile  string `json:"tls_key_file"`
		} `json:"tcp"`
	} `json:"listener"`
}

func load(path string) (config, error) {
	var settings config
	content, err := os.ReadFile(path)
	if err != nil {
		return settings, err
	}
	return settings, json.Unmarshal(content, &settings)
}

// runServer serves Vault until ctx ends, then seals it and closes the listener.
func runServer(ctx context.Context, settings config) error {
	log := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Info, Output: os.Stderr})
	core, err := newCore(settings.Storage.File.Path, log)
	if err != nil {
		return err
	}
	tcp := settings.Listener.TCP
	listener, err := newListener(tcp.Address, tcp.CertFile, tcp.KeyFile)
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
