package devstack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// HydraOptions say what kind of Hydra to start. The zero value is one on free loopback ports.
type HydraOptions struct {
	Host       string    // the address to listen on; empty: 127.0.0.1
	PublicPort int       // the port for OAuth2, or the next free one after it; 0: any free one
	AdminPort  int       // the port for administration, likewise
	Progress   io.Writer // where a build and a taken port are told about; nil: nowhere

	reserved bool // both ports have been reserved already
}

// Hydra is a running Ory Hydra with its data in a file, which it keeps over restarts.
type Hydra struct {
	*Process

	PublicURL, AdminURL string // without a path
	Client              Client // may ask for tokens with the scope EventsScope

	database string // the folder of its SQLite file
	http     *http.Client
}

// EventsScope is the scope of whoever may send events to the function.
const EventsScope = "events"

// StartHydra starts a Hydra with a folder of its own. It is closed when ctx ends.
func StartHydra(ctx context.Context, options HydraOptions) (*Hydra, error) {
	return inState(ctx, startHydra, options)
}

// startHydra starts a Hydra in dir, which is removed with it; on failure its caller has to.
func startHydra(ctx context.Context, dir *state, options HydraOptions) (*Hydra, error) {
	progress := orDiscard(options.Progress)
	executable, err := hydraPart().build(ctx, progress)
	if err != nil {
		return nil, err
	}
	host := cmp.Or(options.Host, defaultHost)
	public, admin := options.PublicPort, options.AdminPort
	if !options.reserved {
		if public, admin, err = takeHydraPorts(ctx, dir, host, public, admin, progress); err != nil {
			return nil, err
		}
	}
	h := &Hydra{
		PublicURL: "http://" + net.JoinHostPort(urlHost(host), strconv.Itoa(public)),
		AdminURL:  "http://" + net.JoinHostPort(urlHost(host), strconv.Itoa(admin)),
		database:  dir.file("hydra"),
		http:      newHTTPClient(&http.Transport{}),
	}
	config := dir.file("hydra.json")
	if err := h.configure(config, host, public, admin); err != nil {
		return nil, fmt.Errorf("configure hydra: %w", err)
	}
	environment := append(plainEnvironment(), "SQA_OPT_OUT=true")
	err = runToEnd(ctx, Command{
		Name: "hydra-migrate", Path: executable, Dir: dir.path, Log: dir.file("hydra-migrate.log"),
		Args:    []string{"migrate", "sql", "up", "--yes", "--read-from-env", "--config", config},
		keepLog: true,
		Env:     append(environment, "DSN="+h.dsn(url.Values{})), // migrations need a connection that is kept
	})
	if own, _ := hydraPart().executable(); err != nil && executable != own {
		err = fmt.Errorf("%w (%s is installed; was it built without SQLite? Where it is not on the PATH, one is built)", err, executable)
	}
	if err != nil {
		return nil, err
	}
	h.Process, err = StartProcess(ctx, Command{
		Name: "hydra", Path: executable, Dir: dir.path, Log: dir.file("hydra.log"),
		Args:  []string{"serve", "all", "--dev", "--sqa-opt-out", "--config", config},
		Env:   environment,
		Ready: h.ready, cleanup: dir.remove, keepLog: true,
	})
	if err != nil {
		return nil, err
	}
	if h.Client, err = h.CreateClient(ctx, EventsScope); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func takeHydraPorts(ctx context.Context, dir *state, host string, public, admin int, progress io.Writer) (int, int, error) {
	public, err := dir.takePort(ctx, "Hydra's public API", host, public, progress)
	if err != nil {
		return 0, 0, err
	}
	admin, err = dir.takePort(ctx, "Hydra's admin API", host, admin, progress)
	return public, admin, err
}

// configure writes Hydra's configuration and makes the folder of its database. No connection to that is kept open, so that
// BreakDatabase takes effect at once.
func (h *Hydra) configure(path, host string, public, admin int) error {
	if err := os.Mkdir(h.database, 0o700); err != nil {
		return err
	}
	quiet := map[string]any{"disable_for_health": true}
	config, err := json.MarshalIndent(map[string]any{
		"dsn": h.dsn(url.Values{"max_idle_conns": {"-1"}}),
		"serve": map[string]any{
			"public": map[string]any{"host": host, "port": public, "request_log": quiet},
			"admin":  map[string]any{"host": host, "port": admin, "request_log": quiet},
		},
		"urls": map[string]any{
			"self":    map[string]any{"issuer": h.PublicURL},
			"login":   h.PublicURL + "/no-login-here",
			"consent": h.PublicURL + "/no-consent-here",
		},
		"secrets": map[string]any{"system": []string{randomSecret().Reveal()}},
		"sqa":     map[string]any{"opt_out": true}, // no telemetry
	}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, config, 0o600)
}

// dsn returns the address of the database, for connections that check foreign keys.
func (h *Hydra) dsn(options url.Values) string {
	options.Set("_fk", "true")
	dsn := url.URL{Scheme: "sqlite", Path: filepath.Join(h.database, "hydra.sqlite"), RawQuery: options.Encode()}
	return dsn.String()
}

// ready returns nil once both APIs answer that they are ready.
func (h *Hydra) ready(ctx context.Context) error {
	return errors.Join(
		call(ctx, h.http, http.MethodGet, h.PublicURL+"/health/ready", nil, nil, nil),
		call(ctx, h.http, http.MethodGet, h.AdminURL+"/health/ready", nil, nil, nil),
	)
}

// BreakDatabase takes the database away from the running Hydra: /health/ready turns 503 and administration 500, while
// /health/alive stays 200. The token endpoint then takes every client for an unknown one: 401.
func (h *Hydra) BreakDatabase() error {
	if err := os.Rename(h.database, h.database+"-gone"); err != nil {
		return fmt.Errorf("break hydra's database: %w", err)
	}
	return nil
}

// RepairDatabase gives the database back, unchanged.
func (h *Hydra) RepairDatabase() error {
	if err := os.Rename(h.database+"-gone", h.database); err != nil {
		return fmt.Errorf("repair hydra's database: %w", err)
	}
	return nil
}

// Alive returns the status of /health/alive on the admin API: 200 while the process answers.
func (h *Hydra) Alive(ctx context.Context) (status int, err error) {
	return statusOf(call(ctx, h.http, http.MethodGet, h.AdminURL+"/health/alive", nil, nil, nil))
}

// Health returns the status of /health/ready on the admin API: 200, or 503 without its database.
func (h *Hydra) Health(ctx context.Context) (status int, err error) {
	return statusOf(call(ctx, h.http, http.MethodGet, h.AdminURL+"/health/ready", nil, nil, nil))
}

// Client is an OAuth2 client for the grant client_credentials.
type Client struct {
	ID     string `json:"client_id"`
	Secret Secret `json:"client_secret"`
}

// CreateClient creates an OAuth2 client that may ask for scope, which may be several separated by spaces.
func (h *Hydra) CreateClient(ctx context.Context, scope string) (Client, error) {
	return h.CreateClientWith(ctx, ClientOptions{Scope: scope})
}

// ClientOptions say what an OAuth2 client may ask for.
type ClientOptions struct {
	Scope    string        // may be several separated by spaces
	Audience []string      // whom its tokens may be for
	TokenTTL time.Duration // of its tokens; 0: an hour
}

// CreateClientWith creates an OAuth2 client.
func (h *Hydra) CreateClientWith(ctx context.Context, options ClientOptions) (Client, error) {
	in := map[string]any{
		"client_name":                "devstack",
		"grant_types":                []string{"client_credentials"},
		"scope":                      options.Scope,
		"audience":                   options.Audience,
		"token_endpoint_auth_method": "client_secret_post",
	}
	if options.TokenTTL != 0 {
		in["client_credentials_grant_access_token_lifespan"] = options.TokenTTL.String()
	}
	var client Client
	if err := call(ctx, h.http, http.MethodPost, h.AdminURL+"/admin/clients", nil, in, &client); err != nil {
		return Client{}, fmt.Errorf("create OAuth2 client: %w", err)
	}
	return client, nil
}

// SetSecret replaces a client's secret: the old one is refused from then on.
func (h *Hydra) SetSecret(ctx context.Context, client Client, secret Secret) error {
	in := []map[string]string{{"op": "replace", "path": "/client_secret", "value": secret.Reveal()}}
	if err := call(ctx, h.http, http.MethodPatch, h.AdminURL+"/admin/clients/"+client.ID, nil, in, nil); err != nil {
		return fmt.Errorf("set the OAuth2 client's secret: %w", err)
	}
	return nil
}

// RevokeToken makes a client's access token useless at once.
func (h *Hydra) RevokeToken(ctx context.Context, client Client, token Secret) error {
	in := url.Values{"client_id": {client.ID}, "client_secret": {client.Secret.Reveal()}, "token": {token.Reveal()}}
	if err := call(ctx, h.http, http.MethodPost, h.PublicURL+"/oauth2/revoke", nil, in, nil); err != nil {
		return fmt.Errorf("revoke access token: %w", err)
	}
	return nil
}

// AccessToken gets an access token for the client with scope, for an audience or for none.
func (h *Hydra) AccessToken(ctx context.Context, client Client, scope string, audience ...string) (Secret, error) {
	in := url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {client.ID},
		"client_secret": {client.Secret.Reveal()},
		"scope":         {scope},
		"audience":      {strings.Join(audience, " ")},
	}
	var answer struct {
		AccessToken Secret `json:"access_token"`
	}
	if err := call(ctx, h.http, http.MethodPost, h.PublicURL+"/oauth2/token", nil, in, &answer); err != nil {
		return "", fmt.Errorf("get access token: %w", err)
	}
	return answer.AccessToken, nil
}
