package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coffeebuddy/test/devstack/stub"

	"github.com/matryer/is"
)

// broker is one on the in-memory channel.
const broker = `
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, namespace: coffeebuddy}
`

// durableCommand: Slack, function, broker, function, response_url. What the function has not signed is a dead letter.
func durableCommand(t *testing.T, s *story) {
	is := is.New(t)
	ctx := t.Context()
	if found := kubectl(t, "get", "crd", "brokers.eventing.knative.dev", "--ignore-not-found", "-o", "name"); found == "" {
		t.Skip("the cluster has no Knative Eventing")
	}
	letters, slack := startDeadLetters(t), startSlack(t)
	_, err := command(ctx, broker, "kubectl", "apply", "-f", "-")
	is.NoErr(err)
	kubectl(t, "wait", "--for=condition=Ready", "broker/default", "--timeout=2m")
	// Otherwise the in-memory channel accepts an event only once its receivers are done with it.
	kubectl(t, "annotate", "inmemorychannel", "default-kne-trigger", "messaging.knative.dev/async-handler=true")
	kubectl(t, "-n", "knative-eventing", "rollout", "restart", "deployment/imc-dispatcher") // which reads that when it first sees the channel
	kubectl(t, "-n", "knative-eventing", "rollout", "status", "deployment/imc-dispatcher", "--timeout=2m")

	ko(t, "apply", "-f", s.manifests(t, "knative", append(slack.edits, settingsVersion(9))...))
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

	var text string
	var took time.Duration
	eventually(t, 2*time.Minute, "a command goes to the broker", func() error {
		text = fmt.Sprint(time.Now().UnixNano())
		d, a, err := signed(ctx, s.polling, s.vault.SigningSecret.Reveal(), "/coffee echo "+text)
		took = d
		return acknowledged(a, err) // not by the revision without a sink
	})
	s.figures.add("a durable command is acknowledged after", "%d ms", took.Milliseconds())
	s.figures.add("… and its reply is posted to response_url after", "%.1f s", slack.receives(t, text).Seconds())

	ingress := clusterIP(t, "knative-eventing", "broker-ingress")
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
	durableReceiver(t, s, slack, letters)
}

// durableReceiver is what a broker does for a receiver that fails three times, refuses, or ends with its process. The image
// is the function with the command of test/e2e/gate.
func durableReceiver(t *testing.T, s *story, slack slackStub, letters *deadLetters) {
	is := is.New(t)
	ctx := t.Context()
	gate, err := stub.StartGate(ctx, setting(addressFlag))
	is.NoErr(err)
	t.Cleanup(func() { _ = gate.Close() })
	s.collectLogs(t)
	image := strings.TrimSpace(koIn(t, "test/e2e", "build", "-B", "--sbom=none", "--platform=linux/"+runtime.GOARCH, "./gate"))
	kubectl(t, "apply", "-f", s.manifests(t, "knative", append(slack.edits, settingsVersion(10),
		edit{"400-service.yaml", "ko://coffeebuddy/function", image},
		edit{"300-config.yaml", "\ndata:\n", "\ndata:\n  GATE_URL: " + gate.URL + "\n"})...))
	becomesReady(t, 2*time.Minute)
	ask := func(name string) {
		t.Helper()
		eventually(t, 2*time.Minute, "the command is acknowledged", func() error {
			_, a, err := signed(ctx, s.polling, s.vault.SigningSecret.Reveal(), "/coffee gate "+name)
			return acknowledged(a, err) // not by the revision without that command
		})
	}

	ask("fails")
	s.figures.add("a receiver that fails three times has its effect after", "%.1f s", slack.receives(t, "fails").Seconds())
	is.Equal(gate.Asked("fails"), 4)

	ask("refused")
	eventually(t, time.Minute, "what the receiver refuses is a dead letter", func() error {
		if n := letters.count(); n != 2 {
			return fmt.Errorf("%d letters", n)
		}
		return nil
	})
	is.Equal(gate.Asked("refused"), 1) // it was not tried again

	ask("hangs")
	eventually(t, time.Minute, "the receiver runs", func() error {
		if gate.Asked("hangs") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	killed := 0
	for _, p := range pods(t) { // the revision before may still drain
		process, err := processOf(strings.TrimSpace(kubectl(t, "get", "pod", p.Metadata.Name, "-o", "jsonpath={.metadata.uid}")), "/ko-app/gate")
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(process))
		is.NoErr(err)
		is.NoErr(syscall.Kill(pid, syscall.SIGKILL))
		killed++
	}
	if killed == 0 {
		t.Skip("the node's processes cannot be seen from here")
	}
	s.figures.add("killed in the middle of it, a receiver has its effect after", "%.1f s", slack.receives(t, "hangs").Seconds())
	is.Equal(letters.count(), 2)
}

// acknowledged returns an error unless a command was handed to the broker.
func acknowledged(a answer, err error) error {
	if err == nil && (a.code != http.StatusOK || a.body != "") {
		return fmt.Errorf("%d %s", a.code, a.body)
	}
	return err
}

// slackStub is Slack's end of response_url, with what the manifests need for it.
type slackStub struct {
	hooks *stub.Hooks
	edits []edit
}

func startSlack(t *testing.T) slackStub {
	t.Helper()
	is := is.New(t)
	is.Helper()
	hooks, err := stub.StartHooks(t.Context(), setting(addressFlag))
	is.NoErr(err)
	t.Cleanup(func() { _ = hooks.Close() })
	object, err := command(t.Context(), string(hooks.CA), "kubectl", "-n", namespace, "create", "configmap", "hooks", "--from-file=ca.pem=/dev/stdin", "--dry-run=client", "-o", "yaml")
	is.NoErr(err)
	_, err = command(t.Context(), object, "kubectl", "apply", "-f", "-")
	is.NoErr(err)
	return slackStub{hooks, []edit{
		{"300-config.yaml", "  # COFFEEBUDDY_SLACK_SECRET:", "  COFFEEBUDDY_SLACK_SECRET:"},
		{"300-config.yaml", "  COFFEEBUDDY_ENVIRONMENT: prod", "  HTTPS_PROXY: " + hooks.ProxyURL + "\n  SSL_CERT_FILE: /hooks/ca.pem\n  COFFEEBUDDY_ENVIRONMENT: prod"},
		{"400-service.yaml", "          volumeMounts:\n", "          volumeMounts:\n            - {name: hooks, mountPath: /hooks, readOnly: true}\n"},
		{"400-service.yaml", "      volumes:\n", "      volumes:\n        - {name: hooks, configMap: {name: hooks}}\n"},
	}}
}

// receives waits until a text has been posted to a response_url.
func (s slackStub) receives(t *testing.T, text string) time.Duration {
	t.Helper()
	return eventually(t, 2*time.Minute, "the reply is posted", func() error {
		if texts := s.hooks.Texts(); !slices.Contains(texts, text) {
			return fmt.Errorf("only %q", texts)
		}
		return nil
	})
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
