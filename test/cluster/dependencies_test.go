package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

// private is the Kubernetes Service that has the pods of the latest revision behind it.
func private(t *testing.T) string {
	t.Helper()
	return latestRevision(t) + "-private"
}

func seal(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	is.Equal(endpoints(t, private(t)), 1)
	is.NoErr(s.vault.Seal(ctx))
	p := onlyPod(t)
	s.figures.add("Vault sealed: the pod says so after", "%.1f s", says(t, p, 10*time.Second, http.StatusServiceUnavailable, `"reason":"sealed"`).Seconds())
	took := eventually(t, 90*time.Second, "the pod leaves the endpoints", func() error {
		if n := endpoints(t, private(t)); n > 0 {
			return fmt.Errorf("%d endpoints", n)
		}
		return nil
	})
	s.figures.add("… and is out of the endpoints after", "%.0f s", took.Seconds())
	status, _ := ready(t)
	s.figures.add("… while Knative says Ready is", "%s", status)

	var began time.Time
	eventually(t, 2*time.Minute, "a caller is held", func() error { // the activator hears of it last
		began = time.Now()
		a, err := s.ingress.json(ctx) // a held caller gets its response after 30 s
		if err != nil {
			return err
		}
		if a.code == http.StatusOK {
			return fmt.Errorf("%d %s", a.code, a.body)
		}
		s.figures.add("… and a caller gets", "%d after %.0f s", a.code, time.Since(began).Seconds())
		return nil
	})

	is.NoErr(s.vault.Unseal(ctx))
	took = eventually(t, 2*time.Minute, "requests are answered", func() error {
		a, err := s.polling.json(ctx)
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		return err
	})
	s.figures.add("… unsealed: requests are answered after", "%.1f s", took.Seconds())
	eventually(t, time.Minute, "the pod is back among the endpoints", func() error {
		if n := endpoints(t, private(t)); n != 1 {
			return fmt.Errorf("%d endpoints", n)
		}
		return nil
	})
	is.Equal(onlyPod(t).Metadata.Name, p.Metadata.Name) // the same pod: nothing was restarted
}

func sealWithGrace(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	ko(t, "apply", "-f", s.manifests(t, "knative", settingsVersion(3), onePod(),
		edit{"300-config.yaml", "COFFEEBUDDY_READY_GRACE: 0s", "COFFEEBUDDY_READY_GRACE: 2m"}))
	becomesReady(t, 2*time.Minute)
	eventually(t, 2*time.Minute, "one pod is left", func() error {
		if n := len(pods(t)); n != 1 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	p := onlyPod(t)
	says(t, p, 10*time.Second, http.StatusOK, `"ready"`)
	is.NoErr(s.vault.Seal(ctx))
	says(t, p, 10*time.Second, http.StatusOK, `"reason":"sealed"`) // 200, and says what is down

	// Three times as long as kubelet takes to give up on a pod that is not ready.
	l := startLoad(ctx, startGateway(t, s.host))
	watched := time.Now()
	eventually(t, 2*time.Minute, "45 s have passed", func() error {
		if n := endpoints(t, private(t)); n != 1 {
			t.Fatalf("%d endpoints after %s", n, time.Since(watched))
		}
		if left := 45*time.Second - time.Since(watched); left > 0 {
			return fmt.Errorf("%s are left", left)
		}
		return nil
	})
	a, err := health(ctx, p, "/health/ready")
	is.NoErr(err)
	is.Equal(a.code, http.StatusOK)
	is.True(strings.Contains(a.body, `"reason":"sealed"`))
	is.NoErr(s.vault.Unseal(ctx))
	eventually(t, 10*time.Second, "Vault is up again", func() error {
		if a, err := health(ctx, p, "/health/ready"); err != nil || strings.Contains(a.body, "sealed") {
			return fmt.Errorf("%s %w", a.body, err)
		}
		return nil
	})
	s.report(t, l, "Vault sealed for 45 s, grace 2 min")
}

func scaleFromZero(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	s.collectLogs(t)
	ko(t, "apply", "-f", s.manifests(t, "knative/scale-to-zero",
		settingsVersion(5),
		edit{"400-service.yaml", "scale-to-zero-pod-retention-period: 5m", "window: 6s"}))
	becomesReady(t, 2*time.Minute)
	for range 3 {
		noPodIsLeft(t)
		began := time.Now()
		a, err := s.ingress.event(ctx, "from-zero")
		is.NoErr(err)
		is.Equal(a.code, http.StatusOK)
		s.figures.add("with no pod: an event is answered after", "%.2f s", time.Since(began).Seconds())
	}
}
