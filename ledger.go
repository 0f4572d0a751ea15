package coffeebuddy

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/ledger"
	"coffeebuddy/vault"

	"github.com/prometheus/client_golang/prometheus"
)

// newLedger returns the memory of events that pods share, nil where none is configured.
func newLedger(settings Settings, client *vault.Client, sender events.Sender, registry prometheus.Registerer, log *slog.Logger) (*ledger.Ledger, error) {
	s := settings.Ledger
	if s.URL == "" {
		return nil, nil //nolint:nilnil // none
	}
	l, err := ledger.New(ledger.Config{
		URL:         s.URL,
		Credentials: ledgerCredentials(s, client),
		Dynamic:     s.Dynamic(),
		App:         settings.AppName,
		Sender:      sender,
		Timeout:     settings.CheckTimeout,
		Receiver:    settings.EventTimeout,
		Log:         log,
	})
	if err != nil {
		return nil, err
	}
	if err := registry.Register(l); err != nil {
		return nil, fmt.Errorf("register the ledger's metrics: %w", err)
	}
	return l, nil
}

// sharedLedger returns what events are remembered in, nil for memory. A nil *ledger.Ledger is
// no nil events.Ledger.
func sharedLedger(l *ledger.Ledger) events.Ledger {
	if l == nil {
		return nil
	}
	return l
}

// ledgerChecker returns the ledger as what readiness asks.
func ledgerChecker(l *ledger.Ledger) []checks.Checker {
	if l == nil {
		return nil
	}
	return []checks.Checker{l}
}

// credentials is what the ledger asks for its user and password.
type credentials = func(ctx context.Context, refused ledger.Credentials) (ledger.Credentials, error)

func ledgerCredentials(s LedgerSettings, client *vault.Client) credentials {
	if s.Dynamic() {
		return leasedCredentials(client.Lease(s.Secret.Mount + "/" + s.Secret.Path))
	}
	kept := &keptCredentials{client: client, kv: *s.Secret}
	return kept.get
}

// leasedCredentials are made by Vault's database engine, and renewed and replaced by the lease.
func leasedCredentials(lease *vault.Lease) credentials {
	return func(ctx context.Context, refused ledger.Credentials) (ledger.Credentials, error) {
		got, err := lease.Get(ctx)
		if err == nil && refused != (ledger.Credentials{}) && usable(got.Values) == refused {
			lease.Refused(got.Version)
			got, err = lease.Get(ctx)
		}
		if err != nil {
			return ledger.Credentials{}, err
		}
		return checked(got.Values)
	}
}

// keptFor is how long credentials from KV are used before they are read again, by use: so long
// may it take until a rotation is noticed that leaves the old ones good.
const keptFor = time.Minute

// keptCredentials are read from a secrets engine of the type KV.
type keptCredentials struct {
	client *vault.Client
	kv     vault.KV

	mu   sync.Mutex
	held ledger.Credentials
	next time.Time // when they are read again
}

func (k *keptCredentials) get(ctx context.Context, refused ledger.Credentials) (ledger.Credentials, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	none := k.held == ledger.Credentials{}
	if !none && refused != k.held && time.Now().Before(k.next) {
		return k.held, nil
	}
	values, err := k.client.Secret(ctx, k.kv)
	var read ledger.Credentials
	if err == nil {
		read, err = checked(values)
	}
	k.next = time.Now().Add(keptFor)
	switch {
	case err == nil:
		k.held = read
	case none || refused == k.held:
		return ledger.Credentials{}, err
	}
	return k.held, nil
}

// usable returns the credentials in a secret's values.
func usable(values map[string]string) ledger.Credentials {
	return ledger.Credentials{User: values["username"], Password: values["password"]}
}

func checked(values map[string]string) (ledger.Credentials, error) {
	c := usable(values)
	if c.User == "" || c.Password == "" {
		return ledger.Credentials{}, checks.Fail(checks.ReasonMisconfigured, "the secret of COFFEEBUDDY_LEDGER_SECRET has no username or no password")
	}
	return c, nil
}
