package observability

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/matryer/is"

	"coffeebuddy/events"
	"coffeebuddy/ledger"
	"coffeebuddy/test/devstack"
)

// TestAlerts breaks real functions in namespaces of their own, all at a time, and waits until a real Prometheus has each alert
// pending or firing where it should be, and has had none anywhere else.
func TestAlerts(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts servers and takes two minutes")
	}
	is := is.New(t)
	ctx := t.Context()
	is.NoErr(devstack.Build(ctx, os.Stderr))
	w := startWatch(t)
	w.add(t, map[string]string{"frozen": frozen(t).address}) // first: it takes 90 s
	good, bad := startPlatforms(t)
	executable := build(t)

	token := func(ttl time.Duration) devstack.Secret {
		token, err := good.vault.CreateToken(ctx, devstack.TokenOptions{TTL: ttl, NotRenewable: true})
		is.NoErr(err)
		return token
	}
	functions := map[string]function{
		"healthy":  start(t, executable, good.environment()...).probed(t).used(t, good.vault.SigningSecret),
		"idle":     start(t, executable, good.environment()...), // nobody asks it anything
		"gone":     start(t, executable, good.environment()...).probed(t),
		"killed":   start(t, executable, good.environment()...).probed(t),
		"outage":   start(t, executable, bad.environment()...).probed(t),
		"grace":    start(t, executable, append(bad.environment(), "COFFEEBUDDY_READY_GRACE=1h")...).probed(t),
		"unset":    start(t, executable, "ORY_BASE_URL="+good.hydra.AdminURL).probed(t),
		"wavering": start(t, executable, append(good.environment(), "ORY_BASE_URL="+wavering(t))...).probed(t),
		"expiring": start(t, executable, append(good.environment(), "VAULT_TOKEN="+token(5*time.Minute).Reveal())...).probed(t),
		"dying":    start(t, executable, append(good.environment(), "VAULT_TOKEN="+token(time.Minute).Reveal())...).probed(t),
	}
	functions["crowded"] = start(t, executable, append(good.environment(), "COFFEEBUDDY_CONNECTIONS=64")...).probed(t).crowded(t)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	t.Cleanup(refusing.Close)
	functions["sinkless"] = start(t, executable, append(good.environment(), "K_SINK="+refusing.URL)...).probed(t).sends(t, good.vault.SigningSecret)
	sharing := startLedger(t, executable, good)
	feature := startBroken(t)
	addresses := map[string]string{"broken": feature.address}
	if sharing != nil {
		functions["ledger"] = *sharing
	}
	for namespace, f := range functions {
		addresses[namespace] = f.address
	}
	w.targets["evicted"] = pod(t, "evicted", "127.0.0.1:1", "Failed") // nothing is there any more
	w.add(t, addresses)
	for _, namespace := range []string{"gone", "killed", "outage", "grace", "healthy"} {
		w.eventually(t, 20*time.Second, func() bool { return w.value(t, `coffeebuddy_ready{namespace=%q}`, namespace) == "1" })
		is.Equal(len(w.lasting(namespace)), 0) // before anything is broken
	}

	w.remove(t, "gone")
	functions["gone"].Kill()
	functions["killed"].Kill()
	is.NoErr(bad.vault.Seal(ctx))
	is.NoErr(bad.hydra.Stop(ctx))
	suffered := make(chan struct{})
	go func() { feature.suffer(ctx); close(suffered) }()
	t.Cleanup(func() { <-suffered })

	notReady := []string{"Down", "NotReady"}
	want := map[string][]string{
		"killed":   {"Down", "TargetDown"},
		"outage":   append([]string{"DependencyDown vault sealed", "DependencyDown ory refused"}, notReady...),
		"grace":    {"DependencyDown vault sealed", "DependencyDown ory refused", "ReadyByGrace vault", "ReadyByGrace ory"},
		"unset":    append([]string{"DependencyMisconfigured vault"}, notReady...),
		"wavering": {"Flapping"},
		"expiring": {"VaultTokenExpires"},
		"dying":    {"VaultTokenExpires", "VaultTokenNotRenewed"},
		"crowded":  {"ConnectionsShed"},
		"sinkless": {"SinkFailing refused", "SlackUnavailable unavailable"},
		"frozen":   append([]string{"VerdictNotRefreshed vault"}, notReady...),
		"broken": {
			"EventsFailing failed", "EventsFailing rejected", "EventsFailing timeout", "EventsRefused unknown_type", "EventsRefused malformed",
			"EventsRetried retry", "EventsOverloaded overloaded", "ReceiversOverstay", "TasksFailed", "Panics",
			"SlackUnavailable unavailable", "SlackUnsigned unsigned", "SlackAcknowledgedFor acknowledged_for",
			"ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly", "LatencyBudgetBurnsFast", "LatencyBudgetBurnsSlowly",
		},
	}
	if sharing != nil {
		want["ledger"] = []string{"LedgerFailing failed", "OutboxNotDrained"}
	}
	may := map[string][]string{ // on the way
		"ledger":   {"SlackUnavailable unavailable", "SinkFailing failed", "EventsRetried retry", "ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly"},
		"wavering": append([]string{"DependencyDown ory unavailable"}, notReady...),
		"dying":    append([]string{"DependencyDown vault denied"}, notReady...), // when it is dead
		"frozen":   {"DependencyDown vault timeout"},
	}
	w.eventually(t, 2*time.Minute, func() bool {
		for namespace, alerts := range want {
			if !w.has(namespace, alerts) {
				return false
			}
		}
		return true
	})

	alerted := make(map[string]bool)
	for namespace := range w.seen {
		for _, alert := range w.lasting(namespace) {
			if !slices.Contains(want[namespace], alert) && !slices.Contains(may[namespace], alert) {
				t.Errorf("%s: %s, and there is no reason to", namespace, alert)
			}
		}
	}
	for _, alerts := range want {
		for _, alert := range alerts {
			name, _, _ := strings.Cut(alert, " ")
			alerted["CoffeeBuddy"+name] = true
		}
	}
	_, alerting := loadRules(t)
	for _, alert := range alerting {
		if sharing == nil && (alert.Alert == "CoffeeBuddyLedgerFailing" || alert.Alert == "CoffeeBuddyOutboxNotDrained") {
			continue // PostgreSQL is not installed
		}
		is.True(alerted[alert.Alert]) // each was seen
	}
	// That they are silent is because all is well, or as it should be, and not because nobody looked.
	is.Equal(w.value(t, `sum(increase(coffeebuddy_events_total{namespace="healthy",outcome="accepted"}[5m])) > bool 100`), "1")
	is.Equal(w.value(t, `sum(increase(coffeebuddy_slack_requests_total{namespace="healthy",outcome="accepted"}[5m])) > bool 50`), "1")
	is.Equal(w.value(t, `coffeebuddy_ready{namespace="idle"}`), "0") // nobody asks
	is.Equal(w.value(t, `up{namespace="idle"}`), "1")
	is.Equal(w.value(t, `up{namespace="gone"}`), "")
	is.Equal(w.value(t, `up{namespace="evicted"}`), "")
}

// startLedger starts a function whose ledger cannot insert, and which has had an event in its outbox for an hour, as its sink is away;
// nil where PostgreSQL is not installed.
func startLedger(t *testing.T, executable string, on platform) *function {
	t.Helper()
	is := is.New(t)
	postgres, err := devstack.StartPostgres(t.Context(), devstack.PostgresOptions{})
	if errors.Is(err, devstack.ErrNoPostgres) {
		t.Log(err)
		return nil
	}
	is.NoErr(err)
	t.Cleanup(func() { is.NoErr(postgres.Close()) })
	is.NoErr(on.vault.ConnectPostgres(t.Context(), postgres, devstack.DatabaseOptions{TTL: time.Hour, MaxTTL: time.Hour}))
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(away.Close)
	waiting := event.New()
	waiting.SetID("1")
	waiting.SetSource("/")
	waiting.SetType("coffee.served")
	_, err = postgres.Query(t.Context(), "SET ROLE "+postgres.User+"; "+ledger.Schema+fmt.Sprintf(`;
		INSERT INTO coffeebuddy_outbox (app, source, event, written) VALUES ('coffeebuddy', '/', '\\x%x', now() - interval '1 hour');
		CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''disk_full''; END';
		CREATE TRIGGER full_disk BEFORE INSERT ON coffeebuddy_ledger EXECUTE FUNCTION full_disk()`, events.AppendEvent(nil, waiting)))
	is.NoErr(err)
	f := start(t, executable, append(on.environment(), "K_SINK="+away.URL,
		"COFFEEBUDDY_LEDGER="+postgres.URL, "COFFEEBUDDY_LEDGER_SECRET=database/creds/"+devstack.DatabaseRole)...).probed(t).used(t, on.vault.SigningSecret)
	return &f
}

// A platform is a Vault and a Hydra.
type platform struct {
	vault *devstack.Vault
	hydra *devstack.Hydra
}

func (p platform) environment() []string {
	return []string{"VAULT_ADDR=" + p.vault.URL, "VAULT_TOKEN=" + p.vault.Token.Reveal(), "ORY_BASE_URL=" + p.hydra.AdminURL}
}

// startPlatforms starts two, at a time. They end with the test.
func startPlatforms(t *testing.T) (good, bad platform) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i, p := range []*platform{&good, &bad} {
		all.Go(func() { p.vault, errs[2*i] = devstack.StartVault(t.Context(), devstack.VaultOptions{}) })
		all.Go(func() { p.hydra, errs[2*i+1] = devstack.StartHydra(t.Context(), devstack.HydraOptions{}) })
	}
	all.Wait()
	is := is.New(t)
	for _, err := range errs {
		is.NoErr(err)
	}
	t.Cleanup(func() {
		for _, p := range []platform{good, bad} {
			is.NoErr(p.vault.Close())
			is.NoErr(p.hydra.Close())
		}
	})
	return good, bad
}
