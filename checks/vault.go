package checks

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	vault "github.com/hashicorp/vault/api"
)

const (
	// lookupEvery is how long a successful lookup of the token is believed. Each
	// lookup is an audited write on Vault's side.
	lookupEvery = 30 * time.Second

	// deniedPause is the pause after the first denied lookup; it doubles with each
	// further one up to lookupEvery.
	deniedPause = time.Second
)

// VaultConfig is all that [Vault] knows of its server. Nothing else is read from
// the environment.
type VaultConfig struct {
	Address   string       // base URL, without /v1
	Namespace string       // for the token's requests; sys/health is asked without
	CACert    string       // file of the PEM certificates to trust instead of the system's; read when a client is built
	Token     TokenSource  // asked at each use
	Log       *slog.Logger // nil discards
}

// Vault checks that a Vault server can serve this function: it is initialized,
// unsealed and not inactive (sys/health, asked without token), and it knows the
// function's token (auth/token/lookup-self).
//
// A standby or a performance standby is fine: it forwards what it is asked.
//
// Whoever uses it, the check or [Vault.Client], keeps its token alive: a renewable one
// is renewed at two thirds of its TTL, wherever it came from, beside the use that finds
// it due. Nobody's use, no renewal.
type Vault struct {
	config VaultConfig

	building sync.Mutex
	built    *vaultClients // nil until first asked, and after a failure that a new client may heal

	identifying sync.Mutex // one at a time asks for the token

	lookup lookup // of the check alone, which runs one at a time

	tending  sync.Mutex
	renewal  renewal
	renewing bool // one renewal at a time
}

// vaultClients are without and with the function's identity, on one http.Client.
type vaultClients struct{ anonymous, identified *vault.Client }

// lookup remembers what the last lookup of the token said, and when the next is due.
type lookup struct {
	token string
	err   error         // of the last lookup; a denial stands until the next
	due   time.Time     // when the next lookup may go out
	pause time.Duration // the pause after the last denial, 0 if there was none
	last  bool          // the token has limited uses: this was the last lookup
}

// NewVault returns a check that connects to nothing before it is first asked.
func NewVault(config VaultConfig) *Vault {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Vault{config: config}
}

// Name returns "vault".
func (v *Vault) Name() string { return "vault" }

// Client returns the client that the check uses, with the token of the moment and the
// function's namespace, and builds it if there is none. It never retries, follows no
// redirect and reads at most 64 KiB of an answer. Ask for it at each use: a token that
// has changed is seen then. Its errors are an [Error].
func (v *Vault) Client(ctx context.Context) (*vault.Client, error) {
	clients, err := v.clients()
	if err != nil {
		return nil, err
	}
	token, err := v.identify(ctx, clients.identified)
	if err != nil {
		return nil, err
	}
	v.tend(clients.identified, token)
	return clients.identified, nil
}

// TokenExpiry returns when the token expires, the zero time for never and as long as
// it has not been looked up.
func (v *Vault) TokenExpiry() time.Time {
	v.tending.Lock()
	defer v.tending.Unlock()
	return v.renewal.expires
}

// Check asks sys/health and, when it is due, auth/token/lookup-self.
func (v *Vault) Check(ctx context.Context) error {
	clients, err := v.clients()
	if err != nil {
		return err
	}
	err = v.check(ctx, clients)
	if ReasonOf(err) == ReasonTLS {
		v.discard() // the certificates to trust may have changed on disk
	}
	return err
}

func (v *Vault) check(ctx context.Context, clients *vaultClients) error {
	token, err := v.identify(ctx, clients.identified)
	if err != nil {
		return err
	}
	if err := checkHealth(ctx, clients.anonymous); err != nil {
		return err
	}
	if token != v.lookup.token {
		v.lookup = lookup{token: token}
	}
	if !v.lookup.last && !time.Now().Before(v.lookup.due) {
		v.lookupSelf(ctx, clients.identified)
	}
	if v.lookup.err == nil {
		v.tend(clients.identified, token)
	}
	return v.lookup.err
}

// identify gives a client the token of the moment.
func (v *Vault) identify(ctx context.Context, client *vault.Client) (token string, err error) {
	v.identifying.Lock()
	defer v.identifying.Unlock()
	if token, err = v.config.Token(ctx); err != nil {
		return "", classify(err)
	}
	client.SetToken(token)
	return token, nil
}

// lookupSelf asks for the token and decides when it is asked for again.
func (v *Vault) lookupSelf(ctx context.Context, client *vault.Client) {
	asked := time.Now()
	lease, uses, err := lookupToken(ctx, client)
	next := lookup{token: v.lookup.token, err: err}
	switch {
	case err == nil:
		next.due = time.Now().Add(lookupEvery)
		next.last = uses != 0
		lease.renewable = lease.renewable && uses == 0 // a renewal spends a use
		v.tending.Lock()
		v.renewal = v.renewal.saw(next.token, lease, asked)
		v.tending.Unlock()
	case ReasonOf(err) == ReasonDenied:
		next.pause = min(max(2*v.lookup.pause, deniedPause), lookupEvery)
		next.due = time.Now().Add(next.pause)
	default: // says nothing of the token: again at the next check
		next.pause = v.lookup.pause
	}
	v.lookup = next
	if next.last {
		v.config.Log.Warn("the Vault token has a limited number of uses: it is not looked up again, so that no more are spent on it")
	}
}

// clients returns the clients in use, or builds them.
func (v *Vault) clients() (*vaultClients, error) {
	v.building.Lock()
	defer v.building.Unlock()
	if v.built != nil {
		return v.built, nil
	}
	built, err := buildVaultClients(v.config)
	if err != nil {
		return nil, err
	}
	v.built = built
	return built, nil
}

func (v *Vault) discard() {
	v.building.Lock()
	defer v.building.Unlock()
	v.built = nil
}

// buildVaultClients builds the clients from config alone. vault/api would read
// some twenty variables from the environment, retry twice, wait 60 s, and send the
// token wherever a redirect points; NewClient reads the environment even when a
// configuration is given, which is why VAULT_* is taken out of it at start.
func buildVaultClients(config VaultConfig) (*vaultClients, error) {
	roots, err := readRoots(config.CACert)
	if err != nil {
		return nil, err
	}
	httpClient := &http.Client{
		Transport: bounded{newTransport(roots)},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return &Error{ReasonBadResponse, "a redirect, which is not followed"}
		},
	}
	clients := new(vaultClients)
	for _, c := range []**vault.Client{&clients.anonymous, &clients.identified} {
		client, err := vault.NewClient(&vault.Config{
			Address: config.Address, HttpClient: httpClient, MaxRetries: 0, DisableRedirects: true,
		})
		if err != nil { // its text may quote the address
			return nil, Fail(ReasonMisconfigured, "the Vault client cannot be built")
		}
		client.ClearToken()
		client.ClearNamespace()
		client.SetWrappingLookupFunc(func(string, string) string { return "" })
		*c = client
	}
	if config.Namespace != "" {
		clients.identified.SetNamespace(config.Namespace)
	}
	return clients, nil
}

// readRoots returns the certificates of a file, nil for no file.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := readFile(file, 1<<20)
	if err != nil {
		return nil, Fail(ReasonMisconfigured, "VAULT_CACERT: "+err.Error())
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, Fail(ReasonMisconfigured, "VAULT_CACERT: the file holds no PEM certificate")
	}
	return roots, nil
}

// checkHealth asks sys/health. Its JSON decides, whatever the status: the query
// asks Vault for 200 in every state, so that a proxy in between lets the JSON
// through, but a proxy may also have dropped the query.
//
// The order is that of Vault's own handler.
func checkHealth(ctx context.Context, client *vault.Client) error {
	const ok = "200"
	status, body, err := read(ctx, client, "sys/health", map[string][]string{
		"standbyok": {"true"}, "perfstandbyok": {"true"},
		"uninitcode": {ok}, "sealedcode": {ok}, "standbycode": {ok}, "performancestandbycode": {ok},
		"drsecondarycode": {ok}, "removedcode": {ok}, "haunhealthycode": {ok},
	})
	if err != nil {
		return err
	}
	var health struct {
		Initialized *bool  `json:"initialized"`
		Sealed      *bool  `json:"sealed"`
		Removed     bool   `json:"removed_from_cluster"`
		HAHealthy   *bool  `json:"ha_connection_healthy"`
		DRMode      string `json:"replication_dr_mode"`
	}
	if json.Unmarshal(body, &health) != nil || health.Initialized == nil || health.Sealed == nil {
		if status != http.StatusOK {
			return statusError(status)
		}
		return Fail(ReasonBadResponse, "sys/health did not answer as Vault does")
	}
	switch {
	case !*health.Initialized:
		return Fail(ReasonUninitialized, "Vault is not initialized")
	case health.Removed:
		return Fail(ReasonInactive, "this Vault node was removed from its cluster")
	case *health.Sealed:
		return Fail(ReasonSealed, "Vault is sealed")
	case health.HAHealthy != nil && !*health.HAHealthy:
		return Fail(ReasonInactive, "this Vault node has lost its active node")
	case health.DRMode == "secondary":
		return Fail(ReasonInactive, "this Vault is a disaster recovery secondary")
	}
	return nil
}

// lookupToken looks the client's token up. Its uses are its num_uses, 0 for a token
// without limit.
func lookupToken(ctx context.Context, client *vault.Client) (l lease, uses int, err error) {
	status, body, err := read(ctx, client, "auth/token/lookup-self", nil)
	switch {
	case err != nil:
		return lease{}, 0, err
	case status == http.StatusForbidden:
		return lease{}, 0, Fail(ReasonDenied, "Vault refuses the token's lookup of itself")
	case status != http.StatusOK:
		return lease{}, 0, statusError(status)
	}
	var answer struct {
		Data struct {
			ID          *string `json:"id"`
			Policies    []any   `json:"policies"`
			TTL         *int64  `json:"ttl"`
			CreationTTL int64   `json:"creation_ttl"`
			Renewable   bool    `json:"renewable"`
			NumUses     *int    `json:"num_uses"`
		} `json:"data"`
	}
	err = json.Unmarshal(body, &answer)
	data := answer.Data
	if err != nil || data.ID == nil && data.Policies == nil && data.TTL == nil && data.NumUses == nil {
		return lease{}, 0, Fail(ReasonBadResponse, "lookup-self did not answer as Vault does")
	}
	if data.NumUses != nil {
		uses = *data.NumUses
	}
	l = lease{full: seconds(data.CreationTTL), renewable: data.Renewable}
	if data.TTL != nil {
		l.ttl = seconds(*data.TTL)
	}
	return l, uses, nil
}

// seconds returns a TTL of Vault's. None is over a century, which a Duration holds.
func seconds(n int64) time.Duration {
	const century = 100 * 365 * 24 * 3600
	return time.Duration(min(max(n, 0), century)) * time.Second
}

// read returns what Vault answers at a path, whatever the status.
func read(ctx context.Context, client *vault.Client, path string, query map[string][]string) (status int, body []byte, err error) {
	resp, err := client.Logical().ReadRawWithDataWithContext(ctx, path, query)
	var answered *vault.ResponseError // its text quotes the URL and the body: read for its type only
	if err != nil && (resp == nil || !errors.As(err, &answered)) {
		return 0, nil, classify(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, classify(fmt.Errorf("read %s: %w", path, err))
	}
	return resp.StatusCode, body, nil
}
