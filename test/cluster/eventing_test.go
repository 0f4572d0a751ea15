package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"
)

// broker is one on the in-memory channel.
const broker = `
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, namespace: coffeebuddy}
`

// durableCommand: Slack, function, broker, function. What the function has not signed is a dead letter.
func durableCommand(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	if found := kubectl(t, "get", "crd", "brokers.eventing.knative.dev", "--ignore-not-found", "-o", "name"); found == "" {
		t.Skip("the cluster has no Knative Eventing")
	}
	letters := startDeadLetters(t)
	_, err := command(ctx, broker, "kubectl", "apply", "-f", "-")
	is.NoErr(err)
	kubectl(t, "wait", "--for=condition=Ready", "broker/default", "--timeout=2m")
	// Otherwise the in-memory channel accepts an event only once its receivers are done with it.
	kubectl(t, "annotate", "inmemorychannel", "default-kne-trigger", "messaging.knative.dev/async-handler=true")
	kubectl(t, "-n", "knative-eventing", "rollout", "restart", "deployment/imc-dispatcher") // which reads that when it first sees the channel
	kubectl(t, "-n", "knative-eventing", "rollout", "status", "deployment/imc-dispatcher", "--timeout=2m")

	ko(t, "apply", "-f", s.manifests(t, "knative", settingsVersion(9), edit{"300-config.yaml", "  # COFFEEBUDDY_SLACK_SECRET:", "  COFFEEBUDDY_SLACK_SECRET:"}))
	becomesReady(t, 2*time.Minute)
	const toService = "      ref:\n        apiVersion: v1\n        kind: Service\n        name: dead-letters"
	kubectl(t, "apply", "-f", copied(t, "knative/eventing",
		edit{"trigger.yaml", toService, "      uri: " + letters.url}, edit{"slack-trigger.yaml", toService, "      uri: " + letters.url}))
	t.Cleanup(func() {
		_, _ = command(context.WithoutCancel(ctx), "", "kubectl", "-n", namespace, "delete", "sinkbinding,trigger,broker", "--all", "--ignore-not-found")
	})
	for _, object := range []string{"sinkbinding/coffeebuddy", "trigger/coffeebuddy", "trigger/coffeebuddy-slack-command"} {
		kubectl(t, "wait", "--for=condition=Ready", object, "--timeout=2m")
	}
	becomesReady(t, 2*time.Minute)

	var took time.Duration
	eventually(t, time.Minute, "a command goes to the broker", func() error {
		d, a, err := signed(ctx, s.ingress, s.vault.SigningSecret.Reveal(), fmt.Sprint("/coffee echo ", time.Now().UnixNano()))
		switch {
		case err != nil:
			return err
		case a.code != http.StatusOK || a.body != "":
			return fmt.Errorf("%d %s", a.code, a.body) // still by the revision without a sink
		}
		took = d
		return nil
	})
	s.figures.add("a durable command is acknowledged after", "%d ms", took.Milliseconds())
	s.figures.add("… and comes back from the broker, with its effect, after", "%.1f s", eventually(t, time.Minute, "it comes back", func() error {
		for _, p := range pods(t) {
			metrics, err := health(ctx, p, "/metrics")
			if err == nil && strings.Contains(metrics.body, "\n"+`coffeebuddy_http_requests_total{code="204",method="POST",route="/"} 1`) {
				return nil
			}
		}
		return errors.New("no pod has received it")
	}).Seconds())

	ingress := kubectl(t, "get", "service", "broker-ingress", "-n", "knative-eventing", "-o", "jsonpath={.spec.clusterIP}")
	a, err := newCaller("http://"+ingress, "broker-ingress.knative-eventing.svc.cluster.local", 10*time.Second).send(ctx, http.MethodPost, "/coffeebuddy/default",
		`{"command":"/coffee","text":"echo forged"}`, "Content-Type: application/json",
		"Ce-Specversion: 1.0", "Ce-Id: forged", "Ce-Source: //slack.com/teams/T1/apps/A1", "Ce-Type: com.slack.command")
	is.NoErr(err)
	is.Equal(a.code, http.StatusAccepted)
	eventually(t, time.Minute, "what is forged is a dead letter", func() error {
		if code := letters.code("forged"); code != strconv.Itoa(http.StatusUnprocessableEntity) {
			return fmt.Errorf("its code is %q", code)
		}
		return nil
	})
	is.Equal(letters.count(), 1) // and nothing else is
}

// deadLetters is a sink on this machine.
type deadLetters struct {
	url string

	mu    sync.Mutex
	codes map[string]string // of the last response, by id
}

func startDeadLetters(t *testing.T) *deadLetters {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(setting(addressFlag), "0"))
	if err != nil {
		t.Fatal(err)
	}
	d := &deadLetters{url: "http://" + listener.Addr().String(), codes: make(map[string]string)}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.codes[r.Header.Get("Ce-Id")] = r.Header.Get("Ce-Knativeerrorcode")
		w.WriteHeader(http.StatusAccepted)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return d
}

func (d *deadLetters) code(id string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.codes[id]
}

func (d *deadLetters) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.codes)
}
