package cluster

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"coffeebuddy/test/devstack"

	"github.com/matryer/is"
)

// reviewer is what Vault asks the API server's TokenReview as.
const reviewer = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: vault-reviewer, namespace: coffeebuddy}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: coffeebuddy-vault-reviewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}
subjects: [{kind: ServiceAccount, name: vault-reviewer, namespace: coffeebuddy}]
`

// deployByRole is a first deploy that needs no secret in any file or command: Vault asks the API server who the pod is.
func deployByRole(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	_, err := command(ctx, reviewer, "kubectl", "apply", "-f", "-")
	is.NoErr(err)
	t.Cleanup(func() { // after the test's own context has ended
		_, _ = command(context.WithoutCancel(ctx), "", "kubectl", "delete", "clusterrolebinding", "coffeebuddy-vault-reviewer", "--ignore-not-found")
	})
	config := func(path string) string {
		return kubectl(t, "config", "view", "--raw", "--minify", "--flatten", "-o", "jsonpath={.clusters[0].cluster."+path+"}")
	}
	authority, err := base64.StdEncoding.DecodeString(config("certificate-authority-data"))
	is.NoErr(err)
	is.NoErr(s.vault.EnableKubernetes(ctx, "kubernetes", devstack.KubernetesAPI{
		URL: config("server"), CA: string(authority),
		ReviewerToken: devstack.Secret(strings.TrimSpace(kubectl(t, "create", "token", "vault-reviewer", "--duration=1h"))),
	}))
	is.NoErr(s.vault.WriteKubernetesRole(ctx, "kubernetes", "coffeebuddy", namespace, "coffeebuddy", devstack.RoleOptions{TTL: time.Hour}))

	s.collectLogs(t)
	kubectl(t, "delete", "ksvc", "coffeebuddy", "--ignore-not-found")
	noPodIsLeft(t)
	kubectl(t, "delete", "secret", "coffeebuddy-vault")
	before := s.vaultTokens(t)
	ko(t, "apply", "-f", s.manifests(t, "knative", settingsVersion(6), edit{"300-config.yaml", "# VAULT_ROLE: coffeebuddy", "VAULT_ROLE: coffeebuddy"}))
	s.figures.add("by role, without a Secret: Ready after", "%.1f s", becomesReady(t, 2*time.Minute).Seconds())
	a, err := s.ingress.json(ctx)
	is.NoErr(err)
	is.Equal(a.code, http.StatusOK)
	metrics, err := health(ctx, onlyPod(t), "/metrics")
	is.NoErr(err)
	is.True(strings.Contains(metrics.body, `coffeebuddy_vault_logins_total{outcome="done"} 1`))
	is.True(strings.Contains(metrics.body, `coffeebuddy_vault_logins_total{outcome="denied"} 0`))
	is.Equal(s.vaultTokens(t), before+1)

	// A pod of another service account is not let in, and says so.
	is.NoErr(s.vault.WriteKubernetesRole(ctx, "kubernetes", "coffeebuddy", namespace, "somebody-else", devstack.RoleOptions{TTL: time.Hour}))
	s.collectLogs(t)
	kubectl(t, "delete", "pod", onlyPod(t).Metadata.Name) // whose token is revoked while it drains
	p := onlyPod(t)
	says(t, p, 20*time.Second, http.StatusServiceUnavailable, `"reason":"denied"`)
	eventually(t, time.Minute, "the pod logs why", func() error { // readiness says it before the log does
		log := kubectl(t, "logs", p.Metadata.Name, "-c", "coffeebuddy")
		for _, text := range []string{"the role is not for this service account", `"role":"coffeebuddy","mount":"kubernetes"`} {
			if !strings.Contains(log, text) {
				return fmt.Errorf("no %q in the log", text)
			}
		}
		return nil
	})
	eventually(t, time.Minute, "the token of the pod that has gone was revoked", func() error {
		if n := s.vaultTokens(t); n != before {
			return fmt.Errorf("%d tokens, not %d", n, before)
		}
		return nil
	})
	is.NoErr(s.vault.WriteKubernetesRole(ctx, "kubernetes", "coffeebuddy", namespace, "coffeebuddy", devstack.RoleOptions{TTL: time.Hour}))
	says(t, p, 40*time.Second, http.StatusOK, `"ready"`) // by itself

	// Neither a role nor a Secret: the pod says both ways out.
	ko(t, "apply", "-f", s.manifests(t, "knative", settingsVersion(7)))
	eventually(t, 2*time.Minute, "the new pod says how to bring a token", func() error {
		logs := kubectl(t, "logs", "-l", "app.kubernetes.io/name=coffeebuddy", "-c", "coffeebuddy", "--tail=-1", "--ignore-errors")
		if !strings.Contains(logs, `"reason":"misconfigured","variable":"VAULT_TOKEN"`) || !strings.Contains(logs, "VAULT_ROLE") {
			return errors.New("not yet")
		}
		return nil
	})
	s.putSecret(t, s.tokens[len(s.tokens)-1])
	ko(t, "apply", "-f", s.manifests(t, "knative", settingsVersion(8)))
	becomesReady(t, 2*time.Minute)
}

// vaultTokens returns how many tokens Vault keeps.
func (s *story) vaultTokens(t *testing.T) int {
	t.Helper()
	is := is.New(t)
	is.Helper()
	var answer struct {
		Data struct{ Keys []string }
	}
	is.NoErr(s.vault.Call(t.Context(), s.vault.RootToken, "LIST", "auth/token/accessors", nil, &answer))
	return len(answer.Data.Keys)
}
