package queueproxy

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
	corev1 "k8s.io/api/core/v1"

	"coffeebuddy/test/devstack"
)

// The ports that a pod has, as its manifest says.
const (
	queuePort    = "8012" // queue-proxy's, for traffic and probes
	functionPort = "8080" // the function's own
)

// A pod is the function behind queue-proxy, in a network of their own.
type pod struct {
	manifest manifest
	network  namespace
	function *devstack.Process
	queue    *devstack.Process
	recorder *recorder // nil without one
	client   *http.Client
	began    time.Time // when its processes were started
}

// podOptions say what is different from the manifests.
type podOptions struct {
	settings map[string]string     // variables of the function
	queue    map[string]string     // variables of queue-proxy
	recorded bool                  // a recorder stands between queue-proxy and the function
	before   func(namespace) error // called before the processes start; may be nil
}

// startPod starts both processes at once, as kubelet does, and waits for neither. When the test ends, the function must have shown no
// panic and be there, or have ended with exit code 0.
func startPod(t *testing.T, p platform, options podOptions) *pod {
	t.Helper()
	m := readManifest(t)
	maps.Copy(m.settings, p.settings())
	network := newNamespace(t)
	lookedUp := map[string]string{
		"SERVING_POD": network.name(), "SERVING_POD_IP": network.address(), "HOST_IP": address(hostAddress), // the pod's
		"VAULT_TOKEN": m.settings["VAULT_TOKEN"], // the Secret's
	}
	delete(m.settings, "VAULT_TOKEN")
	maps.Copy(m.settings, options.settings)

	result := &pod{manifest: m, network: network, client: newClient(t)}
	own := []string{"COFFEEBUDDY_ECHO=true"} // the tests' receiver, which is off in prod
	if options.recorded {
		result.recorder = startRecorder(t, network)
		own = append(own, "PORT="+recordedPort) // the recorder has the function's
	}
	if options.before != nil {
		if err := options.before(network); err != nil {
			t.Fatal(err)
		}
	}
	result.began = time.Now()
	result.queue = result.start(t, "queue-proxy", queueFlag, m.queue, lookedUp, pairs(options.queue))
	result.function = result.start(t, "function", functionFlag, m.function, lookedUp, own)
	t.Cleanup(func() { result.end(t) })
	return result
}

// start starts a container's process, with its variables and some that count more.
func (p *pod) start(t *testing.T, name, binary string, container corev1.Container, lookedUp map[string]string, more []string) *devstack.Process {
	t.Helper()
	env, err := p.manifest.environment(container, lookedUp)
	if err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("ip") // which turns into the program, in the namespace
	if err != nil {
		t.Fatal(err)
	}
	process, err := devstack.StartProcess(context.WithoutCancel(t.Context()), devstack.Command{
		Name: name,
		Path: path,
		Args: []string{"netns", "exec", p.network.name(), setting[string](binary)},
		Env:  append(env, more...),
		Log:  filepath.Join(t.TempDir(), name+".log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, process.Close) })
	return process
}

// pairs are variables as a process gets them.
func pairs(variables map[string]string) []string {
	var env []string
	for name, value := range variables {
		env = append(env, name+"="+value)
	}
	return env
}

// end stops the function, unless the test has, and looks at what it leaves. queue-proxy would take 30 s to end, and is killed.
func (p *pod) end(t *testing.T) {
	is := is.New(t)
	if t.Failed() {
		t.Logf("queue-proxy's log:\n%s", tail(logOf(t, p.queue)))
		t.Logf("the function's log:\n%s", tail(logOf(t, p.function)))
	}
	is.NoErr(p.function.Stop(context.Background()))
	is.Equal(p.function.ExitCode(), 0) // of the function: all in-flight work done
	for line := range strings.Lines(logOf(t, p.function)) {
		is.True(json.Valid([]byte(line)))           // the function writes JSON lines and nothing else
		is.True(!strings.Contains(line, "\"panic")) // nor a panic
	}
}

func logOf(t *testing.T, process *devstack.Process) string {
	t.Helper()
	log, err := os.ReadFile(process.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// tail returns the last lines.
func tail(log string) string {
	const most = 2000
	return log[max(0, len(log)-most):]
}

// throughQueue is where callers reach the pod.
func (p *pod) throughQueue() string { return net.JoinHostPort(p.network.address(), queuePort) }

// direct is where kubelet's liveness probe and Prometheus reach the function.
func (p *pod) direct() string { return net.JoinHostPort(p.network.address(), functionPort) }

// send sends a request through queue-proxy.
func (p *pod) send(ctx context.Context, r request) (answer, error) {
	return send(ctx, p.client, p.throughQueue(), r)
}

// metrics scrapes the function as Prometheus does: it gets the value of each series, by its name with its labels.
func (p *pod) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	a, err := send(t.Context(), p.client, p.direct(), request{path: "/metrics"})
	if err != nil {
		t.Fatal(err)
	}
	if a.status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", a.status, a.body)
	}
	series := make(map[string]float64)
	for line := range strings.Lines(a.body) {
		name, value, found := cutLast(strings.TrimSpace(line), " ")
		if number, err := strconv.ParseFloat(value, 64); found && err == nil && !strings.HasPrefix(line, "#") {
			series[name] = number
		}
	}
	return series
}

func cutLast(s, separator string) (before, after string, found bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}
