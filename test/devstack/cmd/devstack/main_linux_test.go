package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// TestMain lets the test binary stand for the command, so that a test can signal and kill it.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_AS_DEVSTACK") != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestRunGivesTheCommandItsVariables(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := start(t, "-C", "/", "run", "--", "sh", "-c", `pwd; echo "$VAULT_ADDR $ORY_BASE_URL $PORT $VAULT_ROLE$VAULT_TOKEN $VAULT_NAMESPACE"; echo oops >&2; exit 7`)
	is.Equal(d.wait(), 7) // the command's own exit code
	fields := strings.Fields(d.stdout())
	is.Equal(len(fields), 5) // a namespace of the user's own would lead elsewhere
	is.Equal(fields[0], "/")
	is.True(strings.HasPrefix(fields[1], "http://127.0.0.1:"))
	is.True(strings.HasPrefix(fields[2], "http://127.0.0.1:"))
	is.Equal(fields[4], "coffeebuddy") // a role, and no token
	is.True(strings.Contains(d.stderr(), "\noops\n"))
	is.True(!strings.Contains(d.stderr(), "hvs.")) // no token
	is.True(strings.Contains(d.stderr(), "Vault          "+fields[1]))
}

// It is not parallel: with a cache of its own it shares no reservations of the usual ports with the others.
func TestFunctionTurnsReadyByItself(t *testing.T) {
	vault, hydra := built(t, "vault"), built(t, "hydra")
	is := is.New(t)
	port, err := devstack.FreePort(t.Context())
	is.NoErr(err)
	bin, function := t.TempDir(), filepath.Join(t.TempDir(), "function")
	goBuild := exec.Command("go", "build", "-C", "../../../..", "-o", function, "./function")
	output, err := goBuild.CombinedOutput()
	is.NoErr(err) // the function builds
	is.Equal(string(output), "")
	// Installed commands, of which Vault's serves when this test lets it.
	install(t, filepath.Join(bin, "hydra"), "exec "+hydra+` "$@"`)
	install(t, filepath.Join(bin, "vault"), `[ "$1" != server ] || while [ ! -e "$TMPDIR/serve" ]; do sleep 0.01; done; exec `+vault+` "$@"`)

	d := startIn(t, []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "XDG_CACHE_HOME=" + t.TempDir(), "PORT=" + strconv.Itoa(port),
	}, "-at-once", "run", "--", function)
	url := fmt.Sprintf("http://127.0.0.1:%d/health/", port)
	d.eventually("it is live, and not ready for want of Vault", func() bool {
		live, _ := get(url + "live")
		ready, body := get(url + "ready")
		return live == http.StatusOK && ready == http.StatusServiceUnavailable && strings.Contains(body, `"refused"`)
	})
	d.until(d.stderr, "turns 200 by itself")
	is.True(!strings.Contains(d.stderr(), "Vault  ")) // the summary is for later
	is.NoErr(os.WriteFile(filepath.Join(filepath.Dir(d.out), "serve"), nil, 0o600))
	d.until(d.stderr, "health/ready answers 200")
	d.until(d.stderr, "Exports")
	for _, name := range []string{"vault", "hydra"} {
		is.True(strings.Contains(d.stderr(), name+": using "+filepath.Join(bin, name)+", which is installed"))
	}
	d.signal(syscall.SIGINT)
	is.Equal(d.wait(), 0)
	is.Equal(len(d.left()), 0)
}

// install writes a shell script.
func install(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// built returns the path of a server that the devstack has built.
func built(t *testing.T, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs real servers")
	}
	if err := devstack.Build(t.Context(), t.Output()); err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(cache, "coffeebuddy", "devstack", "bin", name+"-*"))
	if err != nil || len(paths) == 0 {
		t.Skipf("%s is installed, so none was built (%v)", name, err)
	}
	newest := slices.MaxFunc(paths, func(a, b string) int { return modified(t, a).Compare(modified(t, b)) })
	return newest
}

func modified(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// get returns the status and the body of a response, or 0 without one.
func get(url string) (status int, body string) {
	response, err := http.Get(url)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(content)
}

func TestRunPassesSignalsOnAndWaits(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			d := start(t, "run", "--", "sh", "-c", `trap 'echo draining; while test ! -e "$TMPDIR/done"; do sleep 0.01; done; exit 5' `+name+
				`; echo "$VAULT_ADDR"; while :; do sleep 0.01; done`)
			d.until(d.stdout, "\n")
			vault := strings.TrimSpace(d.stdout())
			d.signal(signal)
			d.until(d.stdout, "draining\n")
			answer, err := http.Get(vault + "/v1/sys/health")
			is.NoErr(err) // the platform stays until the command has ended
			answer.Body.Close()
			is.NoErr(os.WriteFile(filepath.Join(filepath.Dir(d.out), "done"), nil, 0o600))
			is.Equal(d.wait(), 5)
			is.Equal(len(d.left()), 0)
		})
	}
}

func TestRunKillsAtASecondInterrupt(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := start(t, "run", "--", "sh", "-c", `trap '' INT TERM; echo up; while :; do sleep 0.01; done`)
	d.until(d.stdout, "up\n")
	d.signal(syscall.SIGINT)
	d.until(d.stderr, "Ctrl-C kills it")
	d.signal(syscall.SIGINT)
	is.Equal(d.wait(), 137)
	is.Equal(len(d.left()), 0)
}

func TestPlatformEndsWithASignal(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := start(t, "platform")
	d.until(d.stderr, "Ctrl-C stops the platform.")
	is.True(!strings.Contains(d.stderr(), "hvs."))
	folder := d.folder()
	d.signal(syscall.SIGTERM)
	is.Equal(d.wait(), 0)
	is.Equal(len(d.left()), 0)
	_, err := os.Stat(folder)
	is.True(os.IsNotExist(err))
}

func TestKilledLauncherLeavesNothing(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := start(t, "run", "--", "sh", "-c", `sleep 1000 & echo up; wait`)
	d.until(d.stdout, "up\n")
	is.True(len(d.left()) >= 5) // Vault, Hydra, the command, its child, and who guards it
	folder := d.folder()
	d.signal(syscall.SIGKILL)
	is.Equal(d.wait(), 128+int(syscall.SIGKILL))
	d.eventually("all its processes are gone", func() bool { return len(d.left()) == 0 })

	next := start(t, "run", "--", "true")
	is.Equal(next.wait(), 0)
	_, err := os.Stat(folder)
	is.True(os.IsNotExist(err)) // the next start cleans up
}

func TestWrongCalls(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"run"}, {"run", "--"}, {"run", "true"}, {"platform", "now"}, {"-no-such-flag"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			is := is.New(t)
			var out bytes.Buffer
			code, err := run(args, &out)
			is.NoErr(err)
			is.Equal(code, 2)
			is.True(strings.Contains(out.String(), "usage: devstack"))
		})
	}
}

func TestCommandThatIsNotThere(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	d := start(t, "run", "--", "no-such-command")
	is.Equal(d.wait(), 1)
	is.True(strings.Contains(d.stderr(), "no-such-command")) // before anything is started
	is.Equal(strings.Count(d.stderr(), "\n"), 1)
}

// launcher is a devstack command under test.
type launcher struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err string // files with what it wrote
	mark     string // a variable in the environment of all that it starts
}

func start(t *testing.T, args ...string) *launcher {
	t.Helper()
	return startIn(t, nil, args...)
}

// startIn starts the launcher with more variables in its environment.
func startIn(t *testing.T, environment []string, args ...string) *launcher {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs real servers")
	}
	dir := t.TempDir()
	l := &launcher{
		t: t, cmd: exec.Command(os.Args[0], args...),
		out: filepath.Join(dir, "out"), err: filepath.Join(dir, "err"),
		mark: "TMPDIR=" + dir, // one that every server is given
	}
	l.cmd.Env = append(os.Environ(), l.mark, "TEST_AS_DEVSTACK=1", "VAULT_NAMESPACE=elsewhere")
	l.cmd.Env = append(l.cmd.Env, environment...)
	l.cmd.Stdout, l.cmd.Stderr = create(t, l.out), create(t, l.err)
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("it wrote:\n%s", l.stderr())
		}
		l.cmd.Process.Kill()
		l.cmd.Wait()
	})
	return l
}

func create(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func (l *launcher) stdout() string { return l.read(l.out) }
func (l *launcher) stderr() string { return l.read(l.err) }

func (l *launcher) read(path string) string {
	l.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(content)
}

// folder returns the state folder of the stack.
func (l *launcher) folder() string {
	l.t.Helper()
	for line := range strings.Lines(l.stderr()) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Exports" {
			return filepath.Dir(fields[1])
		}
	}
	l.t.Fatal("it names no file with exports")
	return ""
}

func (l *launcher) signal(signal syscall.Signal) {
	l.t.Helper()
	if err := l.cmd.Process.Signal(signal); err != nil {
		l.t.Fatal(err)
	}
}

// wait returns the exit code, as a shell would.
func (l *launcher) wait() int {
	l.cmd.Wait()
	if status := l.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return l.cmd.ProcessState.ExitCode()
}

func (l *launcher) until(output func() string, text string) {
	l.t.Helper()
	l.eventually(fmt.Sprintf("it says %q", text), func() bool { return strings.Contains(output(), text) })
}

func (l *launcher) eventually(what string, condition func() bool) {
	l.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			l.t.Fatalf("not in 60 s: %s", what)
		}
	}
}

// left returns the processes that the launcher started and that are still there.
func (l *launcher) left() []int {
	l.t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		l.t.Fatal(err)
	}
	var pids []int
	for _, path := range environments {
		environment, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			l.t.Fatal(err)
		}
		if pid != l.cmd.Process.Pid && bytes.Contains(environment, []byte(l.mark+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}
