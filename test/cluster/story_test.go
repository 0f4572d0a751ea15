package cluster

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coffeebuddy/test/devstack"

	"github.com/matryer/is"
)

// story is what the steps hand on.
type story struct {
	figures *figures
	vault   *devstack.Vault
	hydra   *devstack.Hydra
	tokens  []devstack.Secret // all that the function ever had
	ingress *caller           // reaches the Service by its Host
	polling *caller           // the same with a short timeout, for conditions that are polled
	host    string
	logs    strings.Builder // of all pods that were there when a step ended
}

// TestOnACluster is one story in steps: each goes on from where the one before has ended.
func TestOnACluster(t *testing.T) {
	ctx := t.Context()
	if testing.Short() {
		t.Skip("a cluster is not for -short")
	}
	refuseForeign(t)
	s := start(t)
	t.Cleanup(func() {
		_, _ = command(context.Background(), "", "kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=false")
		t.Log(s.figures)
		t.Log(s.downs())
	})
	for _, step := range []struct {
		name string
		run  func(*testing.T, *story)
	}{
		{"a first deploy beside a sealed Vault is not ready, fails at its deadline, and recovers", deploySealed},
		{"a deploy is ready, and answers by its Host", deploy},
		{"the pod is what the manifest says", inspectPod},
		{"Prometheus finds the pod by its annotations, and scrapes it once", scrape},
		{"a roll-out with a new token under load loses nothing", rollOut},
		{"sealing Vault takes the pod out, and unsealing brings it back", seal},
		{"with grace a short seal takes nothing out", sealWithGrace},
		{"a signed slash command is answered in Slack's time", slashCommand},
		{"with no pod, a request starts one", scaleFromZero},
		{"by role, a deploy needs no Secret", deployByRole},
		{"a durable command goes through a broker", durableCommand},
		{"undeploy leaves the namespace and the Secret", undeploy},
		{"two pods share a ledger", sharedLedger},
		{"without Knative it rolls out as well", plainDeployment},
		{"no log holds a secret", readLogs},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, s); s.collectLogs(t) }) {
			break
		}
		if ctx.Err() != nil {
			break
		}
	}
}

// refuseForeign fails where there is a deployment that is not this test's.
func refuseForeign(t *testing.T) {
	t.Helper()
	is := is.New(t)
	is.Helper()
	phase, err := command(t.Context(), "", "kubectl", "get", "namespace", namespace, "--ignore-not-found", "-o", "jsonpath={.status.phase}")
	is.NoErr(err)
	switch phase {
	case "":
	case "Terminating": // of a run before this
		_, err := command(t.Context(), "", "kubectl", "wait", "namespace", namespace, "--for=delete", "--timeout=2m")
		is.NoErr(err)
	default:
		t.Fatalf("the namespace %s is there already: this test makes it and deletes it, and will not touch yours", namespace)
	}
}

func start(t *testing.T) *story {
	t.Helper()
	is := is.New(t)
	is.Helper()
	vault, err := devstack.StartVault(t.Context(), devstack.VaultOptions{Host: setting(addressFlag), Progress: os.Stderr})
	is.NoErr(err)
	t.Cleanup(func() { _ = vault.Close() })
	hydra, err := devstack.StartHydra(t.Context(), devstack.HydraOptions{Host: setting(addressFlag), Progress: os.Stderr})
	is.NoErr(err)
	t.Cleanup(func() { _ = hydra.Close() })
	host := "coffeebuddy.coffeebuddy.svc.cluster.local"
	return &story{
		figures: new(figures), vault: vault, hydra: hydra, tokens: []devstack.Secret{vault.Token}, host: host,
		ingress: newCaller(setting(ingressFlag), host, 60*time.Second),
		polling: newCaller(setting(ingressFlag), host, 10*time.Second),
	}
}

// An edit is what an operator changes in a manifest.
type edit struct{ file, old, new string }

// manifests returns a copy of a folder with the addresses of the servers, and further edits, in it.
func (s *story) manifests(t *testing.T, folder string, edits ...edit) string {
	t.Helper()
	return copied(t, folder, append([]edit{
		{"300-config.yaml", "https://vault.vault.svc.cluster.local:8200", s.vault.URL},
		{"300-config.yaml", "http://hydra-admin.ory.svc.cluster.local:4445", s.hydra.AdminURL},
		{"300-config.yaml", "COFFEEBUDDY_ENVIRONMENT: prod", "COFFEEBUDDY_ENVIRONMENT: prod\n  COFFEEBUDDY_ECHO: \"true\""}, // the tests' receiver
	}, edits...)...)
}

// copied returns a copy of a folder with edits in it.
func copied(t *testing.T, folder string, edits ...edit) string {
	t.Helper()
	is := is.New(t)
	is.Helper()
	source := filepath.Join("..", "..", folder)
	files, err := filepath.Glob(filepath.Join(source, "*.yaml"))
	is.NoErr(err)
	dir, err := os.MkdirTemp("", "manifests-") //nolint:usetesting // t.TempDir has the test's name in it, and ko takes a comma for the end of a path
	is.NoErr(err)
	t.Cleanup(func() { is.NoErr(os.RemoveAll(dir)) })
	used := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		is.NoErr(err)
		for _, e := range edits {
			if e.file != filepath.Base(file) {
				continue
			}
			is.Equal(strings.Count(string(text), e.old), 1) // the manifest has what is to be edited
			text = []byte(strings.Replace(string(text), e.old, e.new, 1))
			used++
		}
		is.NoErr(os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600))
	}
	is.True(used == len(edits) || folder == "knative/scale-to-zero")
	return dir
}

func settingsVersion(n int) edit {
	return edit{"400-service.yaml", `coffeebuddy/settings: "1"`, fmt.Sprintf(`coffeebuddy/settings: "%d"`, n)}
}

// onePod keeps Knative from adding pods under load: the load is above 70 % of the target of one pod. It bounds each revision by itself.
func onePod() edit {
	return edit{"400-service.yaml", `max-scale: "5"`, `max-scale: "1"`}
}

// putSecret makes the Secret, or changes it, as docs/operations.md says.
func (s *story) putSecret(t *testing.T, token devstack.Secret) {
	t.Helper()
	is := is.New(t)
	is.Helper()
	object, err := command(t.Context(), token.Reveal(), "kubectl", "-n", namespace, "create", "secret", "generic", "coffeebuddy-vault",
		"--from-file=token=/dev/stdin", "--dry-run=client", "-o", "yaml")
	is.NoErr(err)
	_, err = command(t.Context(), object, "kubectl", "apply", "-f", "-")
	is.NoErr(err)
}

// downs returns what the function's logs say of dependencies.
func (s *story) downs() string {
	var b strings.Builder
	for line := range strings.SplitSeq(s.logs.String(), "\n") {
		if strings.Contains(line, `"msg":"dependency is down"`) {
			b.WriteString("\n  " + line)
		}
	}
	return b.String()
}

func (s *story) collectLogs(t *testing.T) {
	t.Helper()
	s.logs.WriteString(kubectl(t, "logs", "-l", "app.kubernetes.io/name=coffeebuddy", "--all-containers", "--prefix", "--tail=-1", "--ignore-errors"))
}

// health asks a pod, without Knative between.
func health(ctx context.Context, p pod, path string) (answer, error) {
	return newCaller("http://"+p.Status.PodIP+":8080", "", 5*time.Second).get(ctx, path)
}

// says waits until the pod's readiness has a status and, in its body, a word.
func says(t *testing.T, p pod, within time.Duration, code int, word string) time.Duration {
	t.Helper()
	return eventually(t, within, fmt.Sprintf("readiness is %d and says %s", code, word), func() error {
		a, err := health(t.Context(), p, "/health/ready")
		if err != nil {
			return err
		}
		if a.code != code || !strings.Contains(a.body, word) {
			return fmt.Errorf("%d %s", a.code, a.body)
		}
		return nil
	})
}

func deploySealed(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	is.NoErr(s.vault.Seal(ctx))
	kubectl(t, "apply", "-f", "knative/100-namespace.yaml")
	s.putSecret(t, s.vault.Token)
	ko(t, "apply", "-f", s.manifests(t, "knative", edit{"400-service.yaml", "progress-deadline: 120s", "progress-deadline: 30s"}))

	p := onlyPod(t)
	says(t, p, 10*time.Second, http.StatusServiceUnavailable, `"reason":"sealed"`)
	live, err := health(ctx, p, "/health/live")
	is.NoErr(err)
	is.Equal(live.code, http.StatusOK)

	took := eventually(t, 2*time.Minute, "the revision fails at its deadline", func() error {
		status, why := ready(t)
		if status == "True" {
			t.Fatal("ready beside a sealed Vault")
		}
		if status != "False" {
			return fmt.Errorf("Ready is %s: %s", status, why)
		}
		return nil
	})
	s.figures.add("Vault sealed, progress deadline 30 s: the Service has failed after", "%.0f s", took.Seconds())
	r := get[list[struct {
		Status struct{ Conditions conditions }
	}]](t, "revisions").Items[0]
	_, why := r.Status.Conditions.get("Ready")
	s.figures.add("… because, says its revision", "%s", why)
	p = pods(t)[0]
	for _, c := range p.Status.ContainerStatuses {
		is.Equal(c.RestartCount, 0) // a Vault that is down restarts nothing
	}

	is.NoErr(s.vault.Unseal(ctx))
	s.figures.add("after that, Vault unsealed: the pod says ready after", "%.1f s", says(t, p, 40*time.Second, http.StatusOK, `"ready"`).Seconds())
	s.figures.add("… and Knative, with nothing deployed again", "%.1f s", becomesReady(t, 2*time.Minute).Seconds())
}

func deploy(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	kubectl(t, "delete", "ksvc", "coffeebuddy")
	noPodIsLeft(t)
	revision, err := command(ctx, "", "git", "rev-parse", "HEAD")
	is.NoErr(err)
	began := time.Now()
	ko(t, "apply", "-f", s.manifests(t, "knative"))
	s.figures.add("ko apply, image built before", "%.1f s", time.Since(began).Seconds())
	s.figures.add("then Ready after", "%.1f s", becomesReady(t, 2*time.Minute).Seconds())

	a, err := s.ingress.get(ctx, "/health/ready")
	is.NoErr(err)
	is.Equal(a.code, http.StatusOK)
	is.True(strings.HasPrefix(a.body, `{"status":"ready","components":{"ory":{"status":"ok"`))

	a, err = s.ingress.json(ctx)
	is.NoErr(err)
	is.Equal(a.code, http.StatusOK)
	is.True(strings.HasPrefix(a.body, `{"message":{"message":"Hello World"},"app":"coffeebuddy","environment":"prod"`))

	a, err = s.ingress.event(ctx, "1")
	is.NoErr(err)
	is.Equal(a.code, http.StatusOK)
	is.Equal(a.header.Get("Ce-Type"), "coffeebuddy.echo")

	metrics, err := health(ctx, onlyPod(t), "/metrics")
	is.NoErr(err)
	is.True(strings.Contains(metrics.body, `commit="`+strings.TrimSpace(revision)+`"`)) // build_info is true
	is.True(strings.Contains(metrics.body, "\ncoffeebuddy_ready 1\n"))
	for _, milestone := range []string{"listening", "ready"} {
		_, after, _ := strings.Cut(metrics.body, fmt.Sprintf(`coffeebuddy_start_seconds{until="%s"} `, milestone))
		value, _, _ := strings.Cut(after, "\n")
		s.figures.add("process start until "+milestone, "%s s", value)
	}
}

func undeploy(t *testing.T, s *story) {
	is := is.New(t)
	s.collectLogs(t)
	_, err := command(t.Context(), "", "make", "undeploy")
	is.NoErr(err)
	is.Equal(strings.TrimSpace(kubectl(t, "get", "ksvc/coffeebuddy", "configmap/coffeebuddy", "serviceaccount/coffeebuddy", "--ignore-not-found", "-o", "name")), "")
	kubectl(t, "get", "secret", "coffeebuddy-vault")
	noPodIsLeft(t)
}

func readLogs(t *testing.T, s *story) {
	is := is.New(t)
	logs := s.logs.String()
	is.True(strings.Contains(logs, `"msg":"dependency is up"`)) // these are the function's logs
	secrets := append([]devstack.Secret{s.vault.RootToken, s.vault.UnsealKey, s.vault.SigningSecret, s.hydra.Client.Secret}, s.tokens...)
	for _, secret := range secrets {
		is.True(secret.Reveal() != "")
		is.True(!strings.Contains(logs, secret.Reveal()))
	}
}
