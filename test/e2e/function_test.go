package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

const (
	// shortTTL is the shortest that the function takes, so that tests see a change soon.
	shortTTL = 50 * time.Millisecond

	// checkTimeout is the timeout of one check. A healthy server may take longer than a second beside other tests; what hangs
	// still shows soon.
	checkTimeout = 3 * time.Second

	// soon is how long a change may take to show. The contract says one TTL and one check; the rest is for a busy machine. The
	// chaos measures it.
	soon = 5 * time.Second

	// lookupSoon is soon for what only a lookup of the token shows: a successful one is believed for 30 s.
	lookupSoon = 30*time.Second + soon
)

// A function is the built program as a process of its own. When the test ends it must be alive, have shown no secret, and end with
// exit code 0 on SIGTERM.
type function struct {
	*devstack.Process

	url     string
	client  *http.Client
	secrets secrets
	last    state // what becomes has seen last
}

// start runs the function on a free port with these settings, NAME=value, and returns when it listens. Nothing has been asked of
// it by then but a connection.
func start(t *testing.T, variables ...string) *function {
	t.Helper()
	free, err := devstack.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free)
	address := net.JoinHostPort("127.0.0.1", port)
	f := &function{
		url: "http://" + address,
		// No connection is kept, as kubelet does it, so that no test hides behind one.
		client:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second},
		secrets: secretsOf(variables),
		last:    state{vault: "pending", ory: "pending"},
	}
	ctx := context.WithoutCancel(t.Context()) // t's ends before its cleanups, where the function must still be there
	f.Process, err = devstack.StartProcess(ctx, devstack.Command{
		Name: "function",
		Path: setting[string](functionFlag),
		Env: append([]string{
			"PORT=" + port, "COFFEEBUDDY_HTTP_HOST=127.0.0.1", "COFFEEBUDDY_LOG_LEVEL=debug",
			"COFFEEBUDDY_CHECK_TTL=" + shortTTL.String(), "COFFEEBUDDY_CHECK_TIMEOUT=" + checkTimeout.String(),
		}, variables...),
		Log:         filepath.Join(t.TempDir(), "function.log"),
		Ready:       func(ctx context.Context) error { return connects(ctx, address) },
		StopTimeout: 30 * time.Second, // above its shutdown timeout of 20 s
	})
	if err != nil {
		t.Fatal(err)
	}
	pid := f.PID()
	live := watchLiveness(ctx, f.url)
	t.Cleanup(func() {
		defer f.Close()
		live.end(t)
		f.end(ctx, t)
		is.New(t).Equal(f.PID(), pid) // and not started again meanwhile
	})
	return f
}

// end has the function say its last words, and end.
func (f *function) end(ctx context.Context, t *testing.T) {
	is := is.New(t)
	if !f.Running() {
		t.Fatalf("it ended by itself, with exit code %d:\n%s", f.ExitCode(), f.logged(t))
	}
	metrics := f.metrics(ctx, t)
	is.Equal(metrics["coffeebuddy_http_panics_total"], 0.0)
	is.NoErr(f.Stop(ctx))
	is.Equal(f.ExitCode(), 0) // all in-flight work done
	log := f.logged(t)
	for line := range strings.Lines(log) {
		is.True(json.Valid([]byte(line))) // one JSON line after the other, and nothing on standard error
	}
	is.True(!strings.Contains(log, "panic"))
	is.Equal(f.secrets.shownIn(log), "") // in the log
}

// logged returns what the function has written to standard output and standard error.
func (f *function) logged(t *testing.T) string {
	t.Helper()
	log, err := os.ReadFile(f.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(log)
}

// logs waits until the function has logged a text, and returns its log: what a response says is logged only after it.
func (f *function) logs(t *testing.T, text string) (log string) {
	t.Helper()
	eventually(t, soon, func() bool {
		log = f.logged(t)
		return strings.Contains(log, text)
	})
	return log
}

// An answer is one of the function, read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// get asks the function, and holds the answer to showing no secret.
func (f *function) get(ctx context.Context, t *testing.T, path string) answer {
	t.Helper()
	a, err := get(ctx, f.client, f.url+path)
	if err != nil {
		t.Fatal(err)
	}
	if what := f.secrets.shownIn(a.text()); what != "" {
		t.Errorf("%s shows of the secret %s", path, what)
	}
	return a
}

// text is all that a caller sees.
func (a answer) text() string {
	var text strings.Builder
	_ = a.header.Write(&text) // a Builder takes everything
	return text.String() + a.body
}

func get(ctx context.Context, client *http.Client, url string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: string(body)}, err
}

func connects(ctx context.Context, address string) error {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}

// eventually polls a condition.
func eventually(t *testing.T, within time.Duration, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come true within %s", within)
		}
	}
}
