package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"coffeebuddy/test/devstack"
	"coffeebuddy/test/devstack/stub"

	"github.com/matryer/is"
)

// sharedLedger is two pods with one PostgreSQL, whose users Vault makes: what one has received the other does not receive again.
// The image is the function with the receivers of test/e2e/gate.
func sharedLedger(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	postgres, err := devstack.StartPostgres(ctx, devstack.PostgresOptions{})
	if errors.Is(err, devstack.ErrNoPostgres) {
		t.Skip(err)
	}
	is.NoErr(err)
	t.Cleanup(func() { _ = postgres.Close() })
	_, err = postgres.Query(ctx, "CREATE TABLE effect (id text); ALTER TABLE effect OWNER TO "+postgres.User)
	is.NoErr(err)
	is.NoErr(s.vault.ConnectPostgres(ctx, postgres, devstack.DatabaseOptions{TTL: time.Hour, MaxTTL: 24 * time.Hour}))
	network, err := stub.StartNetwork(ctx, setting(addressFlag), net.JoinHostPort(postgres.Host, strconv.Itoa(postgres.Port))) // PostgreSQL listens on loopback
	is.NoErr(err)
	t.Cleanup(func() { _ = network.Close() })
	gate, err := stub.StartGate(ctx, setting(addressFlag))
	is.NoErr(err)
	t.Cleanup(func() { _ = gate.Close() })

	kubectl(t, "delete", "ksvc", "coffeebuddy", "--ignore-not-found")
	noPodIsLeft(t)
	image := strings.TrimSpace(koIn(t, "test/e2e", "build", "-B", "--sbom=none", "--platform=linux/"+runtime.GOARCH, "./gate"))
	variables := fmt.Sprintf("\ndata:\n  GATE_URL: %s\n  COFFEEBUDDY_LEDGER: postgres://%s/%s?sslmode=disable\n  COFFEEBUDDY_LEDGER_SECRET: database/creds/%s\n",
		gate.URL, network.Address, devstack.PostgresDatabase, devstack.DatabaseRole)
	kubectl(t, "apply", "-f", s.manifests(t, "knative", settingsVersion(11),
		edit{"400-service.yaml", `autoscaling.knative.dev/min-scale: "1"`, `autoscaling.knative.dev/min-scale: "2"`},
		edit{"400-service.yaml", "ko://coffeebuddy/function", image},
		edit{"300-config.yaml", "\ndata:\n", variables}))
	s.figures.add("two pods with a ledger are ready after", "%.1f s", becomesReady(t, 2*time.Minute).Seconds())
	var two []pod
	eventually(t, 2*time.Minute, "two pods say that their ledger is good", func() error {
		if two = pods(t); len(two) != 2 {
			return fmt.Errorf("%d pods", len(two))
		}
		for _, p := range two {
			if a, err := health(ctx, p, "/health/ready"); err != nil || !strings.Contains(a.body, `"ledger":{"status":"ok"`) {
				return fmt.Errorf("%s %w", a.body, err)
			}
		}
		return nil
	})
	send := func(p pod, kind, id string) answer {
		t.Helper()
		a, err := newCaller("http://"+p.Status.PodIP+":8080", "", 10*time.Second).send(ctx, http.MethodPost, "/", "data", "Content-Type: text/plain",
			"Ce-Specversion: 1.0", "Ce-Id: "+id, "Ce-Source: /shop", "Ce-Type: gate."+kind)
		is.NoErr(err)
		is.Equal(a.code, http.StatusOK)
		return a
	}
	const each = 20
	for i := range each {
		for _, kind := range []string{"plain", "transaction"} {
			id := kind + "-" + strconv.Itoa(i)
			first, again := send(two[i%2], kind, id), send(two[(i+1)%2], kind, id)
			is.Equal(first.body, id)
			is.Equal(again.body, id)
			is.Equal(again.header.Get("Ce-Id"), first.header.Get("Ce-Id")) // the same reply, not another like it
			is.Equal(again.header.Get("Ce-Time"), first.header.Get("Ce-Time"))
		}
		is.Equal(gate.Asked("plain-"+strconv.Itoa(i)), 1)
	}
	effects, err := postgres.Query(ctx, "SELECT count(*), count(DISTINCT id) FROM effect")
	is.NoErr(err)
	is.Equal(effects, fmt.Sprintf("%d|%d", each, each))
	for _, p := range two {
		metrics, err := health(ctx, p, "/metrics")
		is.NoErr(err)
		for _, outcome := range []string{"claimed", "answered"} {
			is.True(strings.Contains(metrics.body, fmt.Sprintf("coffeebuddy_ledger_claims_total{outcome=%q} %d\n", outcome, each)))
		}
	}
	s.collectLogs(t)
	s.figures.add("… duplicates of 40 events answered by the other pod; second effects", "%d; %d", 2*each, 0)
	kubectl(t, "delete", "ksvc", "coffeebuddy")
	noPodIsLeft(t)
}
