package cluster

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"coffeebuddy/test/devstack"

	"github.com/matryer/is"
)

// rollOut changes the token as docs/operations.md says, under load: new Secret, new revision, and the old token revoked once its
// pods are gone.
func rollOut(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	token, err := s.vault.CreateToken(ctx, devstack.TokenOptions{Policies: []string{devstack.Policy}})
	is.NoErr(err)
	old := onlyPod(t)
	l := startLoad(ctx, startGateway(t, s.host))

	s.putSecret(t, token)
	s.tokens = append(s.tokens, token)
	ko(t, "apply", "-f", s.manifests(t, "knative", settingsVersion(2), onePod()))
	began := time.Now()
	becomesReady(t, 2*time.Minute)
	eventually(t, 3*time.Minute, "the old pod is gone", func() error {
		for _, p := range allPods(t) {
			if p.Metadata.Name == old.Metadata.Name {
				return fmt.Errorf("%s is there", old.Metadata.Name)
			}
		}
		return nil
	})
	took := time.Since(began)
	is.NoErr(s.vault.RevokeToken(ctx, s.tokens[len(s.tokens)-2]))
	says(t, onlyPod(t), 40*time.Second, http.StatusOK, `"ready"`)
	s.report(t, l, fmt.Sprintf("roll-out until the old pod is gone, %.0f s", took.Seconds()))
}

// report ends a load, which must have lost nothing.
func (s *story) report(t *testing.T, l *load, what string) {
	t.Helper()
	answered, failed, slowest := l.end()
	s.figures.add(what, "%d requests, %d failed, slowest %d ms", answered, len(failed), slowest.Milliseconds())
	if len(failed) > 0 {
		s.figures.add("… the first and the last that failed", "%s; %s", failed[0], failed[len(failed)-1])
	}
	if answered < 1000 {
		t.Errorf("only %d requests were sent: that shows nothing", answered)
	}
	for _, f := range failed[:min(5, len(failed))] {
		t.Error(f)
	}
}

// plainDeployment is the same under load without Knative: what kubernetes/ has to do by itself.
func plainDeployment(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	ko(t, "apply", "-f", s.manifests(t, "kubernetes"))
	kubectl(t, "rollout", "status", "deployment/coffeebuddy", "--timeout=120s")
	address := clusterIP(t, namespace, "coffeebuddy")
	eventually(t, time.Minute, "the Service leads to the pods", func() error { return leads(ctx, address) })

	direct := newCaller("http://"+address, "", 30*time.Second)
	direct.client.Transport = &http.Transport{DisableKeepAlives: true} // else all requests stay with the pods they began with
	l := startLoad(ctx, direct)
	ko(t, "apply", "-f", s.manifests(t, "kubernetes", edit{"400-deployment.yaml", `coffeebuddy/settings: "1"`, `coffeebuddy/settings: "2"`}))
	began := time.Now()
	kubectl(t, "rollout", "status", "deployment/coffeebuddy", "--timeout=120s")
	eventually(t, 2*time.Minute, "the old pods are gone", func() error {
		if n := len(allPods(t)); n != 2 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	s.report(t, l, fmt.Sprintf("plain Deployment, roll-out of two pods, %.0f s", time.Since(began).Seconds()))

	is.NoErr(s.vault.Seal(ctx))
	took := eventually(t, time.Minute, "the pods leave the Service", func() error {
		if n := endpoints(t, "coffeebuddy"); n > 0 {
			return fmt.Errorf("%d endpoints", n)
		}
		return nil
	})
	s.figures.add("plain Deployment, Vault sealed: out of the endpoints after", "%.0f s", took.Seconds())
	is.NoErr(s.vault.Unseal(ctx))
	took = eventually(t, time.Minute, "the pods are back", func() error {
		if n := endpoints(t, "coffeebuddy"); n != 2 {
			return fmt.Errorf("%d endpoints", n)
		}
		return nil
	})
	s.figures.add("… unsealed: back after", "%.0f s", took.Seconds())
}
