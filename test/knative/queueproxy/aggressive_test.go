package queueproxy

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"
)

const (
	probePatience = 100 * time.Millisecond // of queue-proxy, with no periodSeconds in the manifest
	checkTTL      = time.Second            // COFFEEBUDDY_CHECK_TTL's default
)

// TestAggressiveProbing is about what queue-proxy does 20 times a second to a pod that is not ready, when Vault is in trouble from the
// start: it must have every answer within 100 ms, and Vault must not notice how often it asks. Its parts are not parallel to others:
// they are about milliseconds.
func TestAggressiveProbing(t *testing.T) {
	for _, test := range []struct {
		name    string
		slow    time.Duration // what Vault's answers take
		trouble func(context.Context, platform, namespace) error
		heal    func(context.Context, platform, namespace) error
		ready   bool // all the same
	}{
		{name: "slow", slow: 900 * time.Millisecond, ready: true},
		{name: "slower than a check may be", slow: 2500 * time.Millisecond},
		{
			name:    "hung",
			trouble: func(ctx context.Context, p platform, _ namespace) error { return p.vault.Freeze(ctx) },
			heal:    func(_ context.Context, p platform, _ namespace) error { return p.vault.Thaw() },
		},
		{
			name:    "black-holed",
			trouble: func(ctx context.Context, _ platform, n namespace) error { return n.loseVault(ctx) },
			heal:    func(ctx context.Context, _ platform, n namespace) error { return n.findVault(ctx) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			is := is.New(t)
			platform := startPlatform(t)
			vault := startSlowVault(t, platform.vault.URL, test.slow)
			options := podOptions{recorded: true}
			if test.slow > 0 {
				options.settings = map[string]string{"VAULT_ADDR": vault.url}
			}
			if test.trouble != nil {
				options.before = func(n namespace) error { return test.trouble(t.Context(), platform, n) }
			}
			pod := startPod(t, platform, options)
			is.Equal(pod.manifest.queue.ReadinessProbe.PeriodSeconds, int32(0)) // else queue-proxy asks once a period

			// Fixed, because it is about how often something happens: as long as queue-proxy goes on with one probe, and a bit, so that
			// the next one is seen, too.
			const window = 12 * time.Second
			ctx, cancel := context.WithTimeout(t.Context(), window)
			defer cancel()
			var probing sync.WaitGroup
			for _, prober := range []prober{pod.manifest.kubelet(), activator()} {
				probing.Go(func() { prober.keepAsking(ctx, pod.network.address()) })
			}
			var busy float64
			probing.Go(func() { busy = pod.busy(ctx) })
			probing.Wait()

			probes, cut := pod.probes()
			checks := pod.metrics(t)[`coffeebuddy_dependency_checks_total{dependency="vault"}`]
			seen := activator().says(t.Context(), pod.network.address()) == nil
			figure(t, "Vault %s: %d probes of the function, slowest answer %s, cut off at %s: %d (machine too busy: %.1f %%); checks of Vault: %.0f in %s",
				test.name, len(probes), rounded(probes[len(probes)-1]), probePatience, cut, 100*busy, checks, window)
			is.Equal(seen, test.ready)                    // ready
			is.True(checks >= 2)                          // it was asked
			is.True(checks <= float64(window/checkTTL)+2) // once a TTL, at any number of probes
			is.True(probes[len(probes)/2] < probePatience)
			most := len(probes) / 100 // that queue-proxy may have cut off
			if busy > 0 {
				most = len(probes) / 4 // a function that is slow by itself loses half of them
			}
			is.True(cut <= most)
			if !test.ready {
				is.True(len(probes) > int(checks)*3) // it was probed much more often than it asked
			}
			vault.setDelay(0)
			if test.heal != nil {
				is.NoErr(test.heal(t.Context(), platform, pod.network))
			}
			took := eventually(t, soon, func() bool { return activator().says(t.Context(), pod.network.address()) == nil })
			if !test.ready {
				figure(t, "Vault %s, healed: the activator is told 200 after %s", test.name, rounded(took))
			}
		})
	}
}

// probes returns how long the function took to answer queue-proxy's probes, the quickest first, and how many of them queue-proxy did not
// wait for. Those before it listened are not the function's.
func (p *pod) probes() (took []time.Duration, cut int) {
	for _, n := range p.recorder.of("/health/ready") {
		if n.status == http.StatusBadGateway && !n.gaveUp {
			continue
		}
		took = append(took, n.took)
		if n.gaveUp {
			cut++
		}
	}
	slices.Sort(took)
	return took, cut
}

// busy returns how often the machine is too busy for this test, as a share: liveness asks nobody, and yet takes longer to answer than a
// probe that has waited for Vault has left.
func (p *pod) busy(ctx context.Context) float64 {
	const left = 40 * time.Millisecond // of queue-proxy's patience: the function waits for 60 ms
	var asked, late float64
	for pause(ctx, 50*time.Millisecond) { // queue-proxy's own pace
		a, err := send(context.WithoutCancel(ctx), p.client, p.direct(), request{path: "/health/live"})
		if asked++; err != nil || a.took > left {
			late++
		}
	}
	return late / asked
}

// A slowVault hands on what a Vault answers, later.
type slowVault struct {
	url string

	mu    sync.Mutex
	delay time.Duration
}

func startSlowVault(t *testing.T, target string, delay time.Duration) *slowVault {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address(hostAddress), "0"))
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	v := &slowVault{url: "http://" + listener.Addr().String(), delay: delay}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.mu.Lock()
		delay := v.delay
		v.mu.Unlock()
		if pause(r.Context(), delay) {
			proxy.ServeHTTP(w, r)
		}
	})}
	go func() { _ = server.Serve(listener) }() // ends when it is closed
	t.Cleanup(func() { _ = server.Close() })
	return v
}

func (v *slowVault) setDelay(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.delay = d
}
