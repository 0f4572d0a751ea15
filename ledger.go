package coffeebuddy

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"coffeebuddy/checks"
	"coffeebuddy/events"
	"coffeebuddy/internal/single"
	"coffeebuddy/ledger"
	"coffeebuddy/vault"

	"github.com/prometheus/client_golang/prometheus"
)

// newLedger returns the memory of events that pods share, nil where none is configured.
func newLedger(settings Settings, client *vault.Client, sender events.Sender, registry prometheus.Registerer, log *slog.Logger, panicked func()) (*ledger.Ledger, error) {
	s := settings.Ledger
	if s.URL == "" {
		return nil, nil //nolint:nilnil // none
	}
	l, err := ledger.New(ledger.Config{
		URL:         s.URL,
		Credentials: ledgerCredentials(s, client, log, panicked),
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

func ledgerCredentials(s LedgerSettings, client *vault.Client, log *slog.Logger, panicked func()) credentials {
	if s.Dynamic() {
		return leasedCredentials(client.Lease(s.Secret.Mount + "/" + s.Secret.Path))
	}
	kept := &keptCredentials{
		read: func(ctx context.Context) (ledger.Credentials, error) {
			values, err := client.Secret(ctx, *s.Secret)
			if err != nil {
				return ledger.Credentials{}, err
			}
			return checked(values)
		},
		work: single.Work{Name: "read of the ledger's credentials", Timeout: readTimeout, Log: log, OnPanic: panicked},
	}
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

const (
	// keptFor is how long credentials from KV are used before they are read again. A rotation
	// that leaves the old ones valid is noticed within this time.
	keptFor = time.Minute

	// readTimeout limits one read of them.
	readTimeout = 5 * time.Second
)

// keptCredentials are read from a secrets engine of the type KV. Once there are some, they are
// read again beside their use, so that a Vault that hangs holds up no event.
type keptCredentials struct {
	read func(context.Context) (ledger.Credentials, error)
	work single.Work

	mu   sync.Mutex
	held ledger.Credentials
	err  error     // of the last read
	next time.Time // when they are read again
}

func (k *keptCredentials) get(ctx context.Context, refused ledger.Credentials) (ledger.Credentials, error) {
	none := ledger.Credentials{}
	k.mu.Lock()
	if k.held != none && k.held != refused {
		defer k.mu.Unlock()
		if now := time.Now(); !now.Before(k.next) {
			k.next = now.Add(keptFor)
			k.start(ctx)
		}
		return k.held, nil
	}
	ended := k.start(ctx)
	k.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
		return none, fmt.Errorf("read the ledger's credentials: %w", ctx.Err())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil && k.held == refused {
		return none, k.err
	}
	return k.held, nil
}

// start reads the credentials, unless that is being done.
func (k *keptCredentials) start(ctx context.Context) (ended <-chan struct{}) {
	var read ledger.Credentials
	return k.work.Start(ctx, func(ctx context.Context) (err error) {
		read, err = k.read(ctx)
		return err
	}, func(err error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.err, k.next = err, time.Now().Add(keptFor)
		if err == nil {
			k.held = read
		}
	})
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
