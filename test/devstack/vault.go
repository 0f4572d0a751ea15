package devstack

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
)

// VaultOptions say what kind of Vault to start. The zero value is one on a free loopback port, over plain HTTP, ready for use.
type VaultOptions struct {
	Host          string    // the address to listen on; empty: 127.0.0.1
	Port          int       // the port to listen on, or the next free one after it; 0: any free one
	TLS           bool      // serve HTTPS, with a private certificate authority
	Uninitialized bool      // leave it as it is before anyone has set it up; Initialize does that later
	Progress      io.Writer // where a build and a taken port are told about; nil: nowhere

	reserved bool // Port has been reserved already
}

// Vault is a running Vault with its data in files, which it keeps over restarts. As any Vault, it is sealed after one.
type Vault struct {
	*Process

	URL                 string // without a path
	CAFile, WrongCAFile string // with TLS: who signed its certificate, and an authority of the same name that did not

	// These are empty until it is initialized.
	RootToken     Secret
	UnsealKey     Secret
	Token         Secret // renewable, with the policy coffeebuddy: for the function
	SigningSecret Secret // what secret/coffeebuddy/slack holds under signing_secret

	http  *http.Client
	audit auditSink
}

// StartVault starts a Vault with a folder of its own. It is closed when ctx ends.
func StartVault(ctx context.Context, options VaultOptions) (*Vault, error) {
	return inState(ctx, startVault, options)
}

// startVault starts a Vault in dir, which is removed with it; on failure its caller has to.
func startVault(ctx context.Context, dir *state, options VaultOptions) (*Vault, error) {
	progress := orDiscard(options.Progress)
	executable, err := vaultPart().build(ctx, progress)
	if err != nil {
		return nil, err
	}
	host := cmp.Or(options.Host, defaultHost)
	port := options.Port
	if !options.reserved {
		if port, err = dir.takePort(ctx, "Vault", host, port, progress); err != nil {
			return nil, err
		}
	}
	storage := dir.file("vault")
	if err := os.Mkdir(storage, 0o700); err != nil {
		return nil, fmt.Errorf("create the storage of vault: %w", err)
	}
	address := net.JoinHostPort(host, strconv.Itoa(port))
	at := url.URL{Scheme: "http", Host: net.JoinHostPort(urlHost(host), strconv.Itoa(port))}
	tcp := map[string]any{"address": address, "tls_disable": !options.TLS}
	transport := &http.Transport{}
	v := &Vault{audit: auditSink{path: dir.file("audit.sock")}}
	if options.TLS {
		certificates, err := newCertificates(dir, urlHost(host))
		if err != nil {
			return nil, err
		}
		at.Scheme = "https"
		tcp["tls_cert_file"], tcp["tls_key_file"] = certificates.cert, certificates.key
		transport.TLSClientConfig = &tls.Config{RootCAs: certificates.trusted, MinVersion: tls.VersionTLS12}
		v.CAFile, v.WrongCAFile = certificates.ca, certificates.wrongCA
	}
	v.URL, v.http = at.String(), newHTTPClient(transport)
	config, err := json.Marshal(map[string]any{
		"storage":       map[string]any{"file": map[string]any{"path": storage}},
		"listener":      map[string]any{"tcp": tcp},
		"disable_mlock": true,
	})
	if err != nil {
		return nil, fmt.Errorf("configure vault: %w", err)
	}
	configFile := dir.file("vault.json")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		return nil, fmt.Errorf("configure vault: %w", err)
	}

	v.Process, err = StartProcess(ctx, Command{
		Name: "vault", Path: executable, Args: []string{"server", "-config=" + configFile}, Env: plainEnvironment(), Dir: dir.path, Log: dir.file("vault.log"),
		Ready:   v.answers,
		keepLog: true,
		cleanup: func() error { v.audit.close(); return dir.remove() },
	})
	if err != nil {
		return nil, err
	}
	if options.Uninitialized {
		return v, nil
	}
	if err := v.Initialize(ctx); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// answers returns nil once the API is up, whatever it says.
func (v *Vault) answers(ctx context.Context) error {
	_, err := v.Health(ctx)
	return err
}
