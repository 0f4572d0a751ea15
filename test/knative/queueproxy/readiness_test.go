package queueproxy

import (
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/matryer/is"
)

// soon is how long a change of Vault may take to show: the manifest's defaults are a TTL of 1 s and a check of at most 2 s; the rest is
// for a busy machine.
const soon = 10 * time.Second

func TestProbesFailWhileVaultIsSealed(t *testing.T) {
	t.Parallel()
	platform := startPlatform(t)
	is.New(t).NoErr(platform.vault.Seal(t.Context()))
	eventually(t, soon, func() bool {
		status, err := platform.vault.Health(t.Context())
		return err == nil && status == http.StatusServiceUnavailable
	})
	pod := startPod(t, platform, podOptions{})
	eventually(t, soon, func() bool { // queue-proxy listens
		_, err := pod.send(t.Context(), request{path: "/health/live"})
		return err == nil
	})
	probers := []prober{pod.manifest.kubelet(), activator()}
	for _, prober := range probers {
		t.Run(prober.name, func(t *testing.T) {
			is := is.New(t)
			_, err := prober.ask(t.Context(), pod.network.address())
			timeout, ok := errors.AsType[net.Error](err)
			is.True(ok && timeout.Timeout()) // its own patience ends first
			a, err := prober.patient().ask(t.Context(), pod.network.address())
			is.NoErr(err)
			is.Equal(a.status, http.StatusServiceUnavailable)
		})
	}
	is.New(t).NoErr(platform.vault.Unseal(t.Context()))
	for _, prober := range probers {
		took := eventually(t, soon, func() bool { return prober.says(t.Context(), pod.network.address()) == nil })
		figure(t, "Vault sealed since the start, unsealed: %s is told 200 after %s", prober.name, rounded(took))
	}
}

// TestReadyPodThatLosesVault shows what readiness is for, and what it is not: queue-proxy hands on whatever comes to it.
func TestReadyPodThatLosesVault(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	platform := startPlatform(t)
	pod := startPod(t, platform, podOptions{})
	pod.becomesReady(t)
	is.Equal(pod.metrics(t)["coffeebuddy_ready"], 1.0)

	is.NoErr(platform.vault.Seal(t.Context()))
	kubelet := pod.manifest.kubelet()
	eventually(t, soon, func() bool { return kubelet.says(t.Context(), pod.network.address()) != nil })
	a, err := kubelet.patient().ask(t.Context(), pod.network.address())
	is.NoErr(err)
	is.Equal(a.status, http.StatusServiceUnavailable) // the probe fails
	is.Equal(pod.metrics(t)["coffeebuddy_ready"], 0.0)
	a, err = pod.send(t.Context(), request{method: http.MethodPost, path: "/", header: jsonHeader(), body: `{"n":1}`})
	is.NoErr(err)
	is.Equal(a.status, http.StatusOK) // traffic does not
	a, err = send(t.Context(), pod.client, pod.direct(), request{path: "/health/live"})
	is.NoErr(err)
	is.Equal(a.status, http.StatusOK) // nor does liveness: a restart mends no Vault

	is.NoErr(platform.vault.Unseal(t.Context()))
	eventually(t, soon, func() bool { return kubelet.says(t.Context(), pod.network.address()) == nil })
	is.Equal(pod.metrics(t)["coffeebuddy_ready"], 1.0)
}
