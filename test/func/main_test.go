package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coffeebuddy"

	"github.com/matryer/is"
	funchttp "knative.dev/func-go/http"
)

// What func-go looks for, and would do without if it were spelt wrong.
var (
	_ funchttp.Handler           = (*coffeebuddy.Instance)(nil)
	_ funchttp.Starter           = (*coffeebuddy.Instance)(nil)
	_ funchttp.Stopper           = (*coffeebuddy.Instance)(nil)
	_ funchttp.ReadinessReporter = (*coffeebuddy.Instance)(nil)
	_ funchttp.LivenessReporter  = (*coffeebuddy.Instance)(nil)
)

// buffer can be read while a process writes to it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start builds the scaffold and runs it as func does: with LISTEN_ADDRESS, and with
// what func.yaml says of secrets as it stands.
func start(t *testing.T, variables ...string) (url string, command *exec.Cmd, output *buffer) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "f")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	command, output = exec.CommandContext(t.Context(), binary), new(buffer)
	command.Env = append([]string{
		"LISTEN_ADDRESS=" + address, "COFFEEBUDDY_ENVIRONMENT=dev",
		"VAULT_TOKEN={{ secret:coffeebuddy-vault:token }}", "ORY_BASE_URL={{ configMap:coffeebuddy:ORY_BASE_URL }}",
	}, variables...)
	command.Stdout, command.Stderr = output, output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	return "http://" + address, command, output
}

// eventually polls for a status.
func eventually(t *testing.T, url string, code int) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(url)
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode == code {
			return string(body)
		}
	}
	t.Fatalf("%s never answered %d", url, code)
	return ""
}

func TestScaffoldServes(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	url, command, output := start(t)
	eventually(t, url+"/health/readiness", 200) // what func run waits for
	eventually(t, url+"/health/liveness", 200)
	is.Equal(eventually(t, url+"/health/live", 200), `{"status":"live"}`+"\n")
	is.True(strings.Contains(eventually(t, url+"/health/ready", 503), `"vault":{"status":"unavailable","reason":"misconfigured"}`))
	is.True(strings.Contains(eventually(t, url+"/metrics", 200), "coffeebuddy_ready 0\n"))

	resp, err := http.Post(url, "application/json", strings.NewReader(`{"message":"Hello World"}`)) // func invoke
	is.NoErr(err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	is.NoErr(err)
	is.Equal(resp.StatusCode, 200)
	is.True(strings.HasPrefix(string(body), `{"message":{"message":"Hello World"},"app":"coffeebuddy","environment":"dev"`))

	is.NoErr(command.Process.Signal(syscall.SIGTERM))
	is.NoErr(command.Wait()) // exit 0
	is.True(strings.Contains(output.String(), `"msg":"dependency is misconfigured"`))
}

func TestScaffoldWithWrongSettingsStops(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	_, command, output := start(t, "COFFEEBUDDY_CHECK_TTL=canary")
	err := command.Wait()
	is.Equal(fmt.Sprint(err), "exit status 1")
	is.True(strings.Contains(output.String(), "COFFEEBUDDY_CHECK_TTL: must be "))
	is.True(!strings.Contains(output.String(), "canary"))
}
