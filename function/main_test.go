package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coffeebuddy/internal/servertest"

	"github.com/matryer/is"
)

// TestMain lets the test binary be the program itself, so that tests start it,
// signal it and see its exit code, as Kubernetes does.
func TestMain(m *testing.M) {
	if os.Getenv("BE_THE_FUNCTION") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestTheCollector runs half as often as by Go's default, unless the environment says how often.
func TestTheCollector(t *testing.T) {
	t.Parallel()
	for when, row := range map[string]struct{ variables, percent string }{
		"nothing is set":       {"", "200"},
		"GOGC is set":          {"GOGC=100", "100"},
		"GOMEMLIMIT is set":    {"GOMEMLIMIT=224MiB", "100"},
		"both are, as on pods": {"GOMEMLIMIT=224MiB GOGC=200", "200"},
		"GOGC is low":          {"GOMEMLIMIT=224MiB GOGC=50", "50"},
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			p := start(t, strings.Fields(row.variables)...).listening(t)
			_, metrics := get(t, p.url+"/metrics")
			is.True(strings.Contains(metrics, "\ngo_gc_gogc_percent "+row.percent+"\n"))
		})
	}
}

// A program is the function as a process of its own.
type program struct {
	*exec.Cmd
	url            string
	stdout, stderr syncBuffer
	exited         chan struct{} // closed when it has
}

// start runs the function on a free port with nothing but these variables.
func start(t testing.TB, variables ...string) *program {
	t.Helper()
	return startTo(t, nil, variables...)
}

// startTo is start with the log going to a file, nil for the program's own buffer.
func startTo(t testing.TB, log *os.File, variables ...string) *program {
	t.Helper()
	p := newProgram(t, os.Args[0], append([]string{"BE_THE_FUNCTION=1"}, variables...)...)
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	if log != nil {
		p.Stdout = log
	}
	p.begin(t)
	return p
}

// begin starts the program, and kills it when the test ends.
func (p *program) begin(t testing.TB) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.exited
	})
}

// newProgram returns a program that is to listen on a free port of loopback, with
// nothing but these variables, of which the last counts.
func newProgram(t testing.TB, binary string, variables ...string) *program {
	t.Helper()
	port := servertest.FreePort(t)
	p := &program{Cmd: exec.Command(binary), url: fmt.Sprintf("http://127.0.0.1:%d", port), exited: make(chan struct{})}
	p.Env = append([]string{fmt.Sprintf("PORT=%d", port), "COFFEEBUDDY_HTTP_HOST=127.0.0.1"}, variables...)
	return p
}

// listening waits until the port answers.
func (p *program) listening(t testing.TB) *program {
	t.Helper()
	eventually(t, func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return p
}

// ready waits until the readiness probe is 200.
func (p *program) ready(t testing.TB) {
	t.Helper()
	eventually(t, func() bool {
		code, _ := get(t, p.url+"/health/ready")
		return code == http.StatusOK
	})
}

// exit waits for the process to end and returns its code, -1 for one that a signal ended.
func (p *program) exit(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		t.Fatal("it did not exit")
	}
	return p.ProcessState.ExitCode()
}

// get returns a status and a body.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	code, body, err := tryGet(url)
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

// tryGet is get for a server that may be gone.
func tryGet(url string) (int, string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// dependencies are a healthy Vault and a healthy Ory, which a test can make fail.
type dependencies struct {
	vault, ory *httptest.Server
	mu         sync.Mutex
	vaultSays  string
	oryStatus  int
}

func newDependencies(t testing.TB) *dependencies {
	t.Helper()
	d := &dependencies{vaultSays: `{"initialized":true,"sealed":false,"standby":false}`, oryStatus: 200}
	d.vault = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if r.URL.Path == "/v1/sys/health" {
			_, _ = io.WriteString(w, d.vaultSays)
			return
		}
		_, _ = io.WriteString(w, `{"data":{"id":"s.canary","num_uses":0}}`)
	}))
	d.ory = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		w.WriteHeader(d.oryStatus)
		_, _ = io.WriteString(w, `{"status":"ok"}`)
	}))
	t.Cleanup(d.vault.Close)
	t.Cleanup(d.ory.Close)
	return d
}

func (d *dependencies) set(vaultSays string, oryStatus int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.vaultSays, d.oryStatus = vaultSays, oryStatus
}

func (d *dependencies) environment() []string {
	return []string{
		"VAULT_ADDR=" + d.vault.URL, "VAULT_TOKEN=s.canary\n", "ORY_BASE_URL=" + d.ory.URL + "/",
		"COFFEEBUDDY_CHECK_TTL=50ms", "COFFEEBUDDY_LOG_LEVEL=debug",
	}
}

func TestReadyOnTheFirstProbeAndBack(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := newDependencies(t)
	// A busy machine is late with a check, but not at each start. What is broken is broken at each.
	var p *program
	var code int
	var body string
	for tries := 0; tries < 3 && code != 200; tries++ {
		p = start(t, d.environment()...).listening(t)
		code, body = get(t, p.url+"/health/ready")
	}
	is.Equal(code, 200)
	is.True(strings.HasPrefix(body, `{"status":"ready","components":{"ory":{"status":"ok","checked_at":"`))

	d.set(`{"initialized":true,"sealed":true}`, 200)
	says := func(what string) func() bool {
		return func() bool { _, body := get(t, p.url+"/health/ready"); return strings.Contains(body, what) }
	}
	eventually(t, says(`"vault":{"status":"unavailable","reason":"sealed"`))
	d.set(`{"initialized":true,"sealed":false}`, 503)
	eventually(t, says(`"ory":{"status":"unavailable","reason":"unavailable"`))
	d.set(`{"initialized":true,"sealed":false}`, 200)
	eventually(t, says(`"status":"ready"`))
	d.ory.Close()
	eventually(t, says(`"ory":{"status":"unavailable","reason":"refused"`))
	code, _ = get(t, p.url+"/health/live")
	is.Equal(code, 200) // asks nobody

	_, metrics := get(t, p.url+"/metrics")
	for _, line := range []string{
		"coffeebuddy_ready 0", `coffeebuddy_dependency_up{dependency="vault"} 1`, `coffeebuddy_dependency_up{dependency="ory"} 0`,
	} {
		is.True(strings.Contains(metrics, line+"\n"))
	}
	is.True(!strings.Contains(metrics, `coffeebuddy_start_seconds{until="ready"} 0`+"\n"))

	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	is.Equal(p.exit(t), 0)
	is.Equal(p.stderr.String(), "")
	for line := range strings.Lines(p.stdout.String()) {
		is.True(json.Valid([]byte(line))) // JSON lines and nothing else
		for _, secret := range []string{"canary", d.vault.URL, d.ory.URL} {
			is.True(!strings.Contains(line, secret))
		}
	}
}

func TestNothingConfigured(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := start(t).listening(t)
	code, _ := get(t, p.url+"/health/live")
	is.Equal(code, 200)
	resp, err := http.Get(p.url + "/health/ready")
	is.NoErr(err)
	resp.Body.Close()
	is.Equal(resp.StatusCode, 503)
	is.Equal(resp.Header.Get("Retry-After"), "") // only a restart helps
	for _, variable := range []string{"VAULT_ADDR", "VAULT_TOKEN", "ORY_BASE_URL"} {
		eventually(t, func() bool { return strings.Contains(p.stdout.String(), variable) }) // a background writer logs
		is.Equal(strings.Count(p.stdout.String(), variable), 1)                             // named once
	}
	_, metrics := get(t, p.url+"/metrics")
	is.True(strings.Contains(metrics, "\ncoffeebuddy_vault_token_expiry_timestamp_seconds 0\n")) // there is no token to know of
}

func TestWrongSettingsEndTheProcessBeforeItListens(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := start(t, "COFFEEBUDDY_CHECK_TTL=canary", "COFFEEBUDDY_LOG_LEVEL=canary", "VAULT_ADDR=canary")
	is.Equal(p.exit(t), 1)
	is.Equal(p.stderr.String(), "COFFEEBUDDY_CHECK_TTL: must be a duration from 50ms to 15s, such as 1s or 250ms\n"+
		"COFFEEBUDDY_LOG_LEVEL: must be one of info, debug, warn, error\n")
	is.Equal(p.stdout.String(), "")
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	p := start(t, fmt.Sprintf("PORT=%d", port))
	is.Equal(p.exit(t), 1)
	is.Equal(p.stderr.String(), fmt.Sprintf("listen on COFFEEBUDDY_HTTP_HOST and port %d: address already in use\n", port))

	p = start(t, "COFFEEBUDDY_HTTP_HOST=192.0.2.1")
	is.Equal(p.exit(t), 1)
	is.True(strings.HasSuffix(p.stderr.String(), ": cannot assign requested address\n"))
}

// slowBody opens a request whose body is not complete, so that it is in flight, besides the scrape.
func slowBody(t *testing.T, p *program) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, metrics := get(t, p.url+"/metrics")
		return strings.Contains(metrics, "coffeebuddy_http_requests_in_flight 2\n")
	})
	return conn
}

func TestTerminationFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			for range 3 {
				if terminates(t, signal) {
					return
				}
			}
			t.Fatal("in each of three programs the listener was closed before the probes")
		})
	}
}

// terminates tests one program. It reports false if the test was too late for the probes while the program drains: the
// listener stays open for 300 ms, in which a busy machine may not get to them.
func terminates(t *testing.T, signal os.Signal) bool {
	t.Helper()
	is := is.New(t)
	p := start(t, newDependencies(t).environment()...).listening(t)
	conn := slowBody(t, p)
	p.ready(t)

	signalled := time.Now()
	mayBeClosed := func() bool { return time.Since(signalled) >= 290*time.Millisecond } // after 300 ms, by two clocks
	is.NoErr(p.Process.Signal(signal))
	eventually(t, func() bool { return strings.Contains(p.stdout.String(), `"draining"`) })
	for _, probe := range []struct {
		path, body string
		code       int
	}{
		{"/health/ready", `{"status":"draining"`, 503},
		{"/health/live", "", 200},
	} {
		code, body, err := tryGet(p.url + probe.path) // the listener is still open
		if err != nil && mayBeClosed() {
			return false
		}
		is.NoErr(err)
		is.Equal(code, probe.code)
		is.True(strings.HasPrefix(body, probe.body))
	}

	eventually(t, func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	is.True(mayBeClosed())

	_, err := io.WriteString(conn, "}")
	is.NoErr(err)
	answer := make([]byte, len("HTTP/1.1 200"))
	_, err = io.ReadFull(conn, answer)
	is.NoErr(err)
	is.Equal(string(answer), "HTTP/1.1 200")
	is.Equal(p.exit(t), 0)
	return true
}

func TestTerminationCutsOffAtItsDeadline(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := start(t, "COFFEEBUDDY_SHUTDOWN_TIMEOUT=1s").listening(t)
	slowBody(t, p)
	signalled := time.Now()
	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	is.Equal(p.exit(t), 1)
	took := time.Since(signalled)
	is.True(took > 900*time.Millisecond && took < 5*time.Second)
	is.True(strings.Contains(p.stderr.String(), "cut off"))
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	p := start(t).listening(t)
	slowBody(t, p)
	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	eventually(t, func() bool { return strings.Contains(p.stdout.String(), `"draining"`) })
	signalled := time.Now()
	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	is.Equal(p.exit(t), 1)
	is.True(time.Since(signalled) < 5*time.Second)
}

func TestTerminationDoesNotWaitForConnectionsWithoutARequest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ when, sent string }{
		{"nothing sent", ""},
		{"half a request line", "GET /hea"},
		{"a probe whose announced body does not come", "GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"},
	} {
		t.Run(test.when, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			p := start(t).listening(t)
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			is.NoErr(err)
			defer conn.Close()
			_, err = io.WriteString(conn, test.sent)
			is.NoErr(err)
			get(t, p.url+"/health/live") // accepted after the other one
			is.NoErr(p.Process.Signal(syscall.SIGTERM))
			signalled := time.Now()
			is.Equal(p.exit(t), 0)
			is.True(time.Since(signalled) < 4*time.Second) // http.Server alone would wait 5 s
			is.Equal(p.stderr.String(), "")
		})
	}
}

// TestLogThatNobodyReads, since its pipe is full, or gone: no event and no shutdown waits for it,
// and what was dropped is counted.
func TestLogThatNobodyReads(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprint("gone: ", gone), func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			read, write, err := os.Pipe()
			is.NoErr(err)
			defer read.Close()
			p := startTo(t, write, "COFFEEBUDDY_SHUTDOWN_TIMEOUT=5s").listening(t)
			is.NoErr(write.Close())
			if gone {
				is.NoErr(read.Close())
			}
			dropped := func() bool {
				resp, err := http.Get(p.url + "/metrics")
				is.NoErr(err)
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				is.NoErr(err)
				return !strings.Contains(string(body), "\ncoffeebuddy_log_lines_dropped_total 0\n")
			}
			client := &http.Client{Timeout: 5 * time.Second}
			for sent := 0; sent < 2000 || !gone && !dropped(); {
				for range 500 { // 150 kB of lines
					sent++
					resp, err := client.Post(p.url, "application/json", strings.NewReader("{}"))
					is.NoErr(err)
					resp.Body.Close()
					is.Equal(resp.StatusCode, 200)
				}
				is.True(sent < 50_000)
			}
			is.Equal(dropped(), !gone) // a pipe that is gone takes everything
			is.NoErr(p.Process.Signal(syscall.SIGTERM))
			is.Equal(p.exit(t), 0)
		})
	}
}

// TestProbesOfAHungVault is 40 probes at a time, each answered before queue-proxy
// gives up at 100 ms. That it is 80 is measured by the benchmark, without the race
// detector.
func TestProbesOfAHungVault(t *testing.T) {
	d := newDependencies(t)
	release := make(chan struct{})
	hung := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hung.Close()
	defer close(release)
	p := start(t, append(d.environment(), "VAULT_ADDR="+hung.URL, "COFFEEBUDDY_CHECK_TIMEOUT=10s")...).listening(t)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}}
	// burst sends 40 probes at a time, and returns the longest that one took.
	burst := func() (slowest time.Duration) {
		var mu sync.Mutex
		var probes sync.WaitGroup
		for range 40 {
			probes.Go(func() {
				asked := time.Now()
				resp, err := client.Get(p.url + "/health/ready")
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				mu.Lock()
				defer mu.Unlock()
				slowest = max(slowest, time.Since(asked))
			})
		}
		probes.Wait()
		return slowest
	}
	best := time.Hour
	// A machine that is busy with other tests is late with anything, but not each time. Once the check has ended by its
	// deadline nobody waits any more.
	for began := time.Now(); time.Since(began) < 8*time.Second; {
		if best = min(best, burst()); best < 100*time.Millisecond {
			return
		}
	}
	t.Fatalf("each burst of probes had one that took %s or longer", best)
}

func TestNothingIsLeftBehind(t *testing.T) {
	is := is.New(t)
	d := newDependencies(t)
	p := start(t, d.environment()...).listening(t)
	count := func() (goroutines, files int) {
		_, metrics := get(t, p.url+"/metrics")
		for line := range strings.Lines(metrics) {
			if _, err := fmt.Sscanf(line, "go_goroutines %d", &goroutines); err == nil {
				break
			}
		}
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Process.Pid))
		if err != nil {
			t.Skip("no /proc here")
		}
		return goroutines, len(open)
	}
	http.DefaultClient.CloseIdleConnections()
	get(t, p.url+"/health/ready")
	goroutines, files := count()

	var storm sync.WaitGroup
	for i := range 200 {
		storm.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%20)*time.Millisecond)
			defer cancel()
			for _, path := range []string{"/health/ready", "/metrics", "/"} {
				req, err := http.NewRequestWithContext(ctx, "POST", p.url+path, strings.NewReader(`{"a":1}`))
				if err != nil {
					return
				}
				req.Header.Set("Content-Type", "application/json")
				if path != "/" {
					req.Method = "GET"
				}
				if resp, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		})
	}
	storm.Wait()
	eventually(t, func() bool {
		g, f := count()
		return g <= goroutines && f <= files
	})
	is.NoErr(p.Process.Signal(syscall.SIGTERM))
	is.Equal(p.exit(t), 0)
}

// eventually polls a condition.
func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatal("it never came true")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// A syncBuffer can be read while a process writes to it.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
