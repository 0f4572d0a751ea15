package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
)

func TestStateOfAKilledLauncherIsRemoved(t *testing.T) {
	is := is.New(t)
	emptyCache(t)
	alive, err := newState(t.Context())
	is.NoErr(err)
	stale := filepath.Join(filepath.Dir(alive.path), "stale")
	is.NoErr(os.Mkdir(stale, 0o700))
	is.NoErr(os.WriteFile(stale+".lock", nil, 0o600)) // and nobody holds it
	is.NoErr(os.Mkdir(stale+"-sooner", 0o700))        // killed before it took its lock

	next, err := newState(t.Context())
	is.NoErr(err)
	is.True(!exists(stale))
	is.True(!exists(stale + ".lock"))
	is.True(!exists(stale + "-sooner"))
	is.True(exists(alive.path)) // a running one is not touched
	is.NoErr(alive.remove())
	is.NoErr(alive.remove()) // again
	is.True(!exists(alive.path))
	is.True(!exists(alive.path + ".lock"))
	is.NoErr(next.shared().remove())
	is.True(exists(next.path)) // not its own to remove
}

func TestPorts(t *testing.T) {
	is := is.New(t)
	emptyCache(t)
	dir, err := newState(t.Context())
	is.NoErr(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	defer listener.Close()
	taken := listener.Addr().(*net.TCPAddr).Port

	var said bytes.Buffer
	port, err := dir.takePort(t.Context(), "Vault", "127.0.0.1", taken, &said)
	is.NoErr(err)
	is.True(port > taken)
	is.Equal(said.String(), fmt.Sprintf("port %d is taken: Vault takes %d\n", taken, port))

	other, err := newState(t.Context())
	is.NoErr(err)
	next, err := other.takePort(t.Context(), "Vault", "127.0.0.1", port, &said)
	is.NoErr(err)
	is.True(next > port) // reserved, although nobody listens on it
	is.NoErr(dir.remove())
	again, err := other.takePort(t.Context(), "Vault", "127.0.0.1", port, &said)
	is.NoErr(err)
	is.Equal(again, port) // until its stack is gone

	_, err = other.takePort(t.Context(), "Vault", "192.0.2.1", 8200, &said) // an address for documentation, nobody's
	is.True(strings.Contains(err.Error(), "find a free port for Vault: "))
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	path := filepath.Join(t.TempDir(), "lock")
	held, err := tryLock(path)
	is.NoErr(err)
	_, err = tryLock(path)
	is.True(errors.Is(err, errLocked))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = lock(ctx, path)
	is.True(errors.Is(err, context.Canceled))

	context.AfterFunc(ctx, func() { held.Close() })
	taken, err := lock(t.Context(), path)
	is.NoErr(err)
	is.NoErr(taken.Close())
}

func TestFailedStartKeepsItsLog(t *testing.T) {
	is := is.New(t)
	emptyCache(t)
	dir, err := newState(t.Context())
	is.NoErr(err)
	_, err = StartProcess(t.Context(), Command{
		Name: "shell", Path: "/bin/sh", Args: []string{"-c", "echo no coffee; exit 1"}, Log: dir.file("shell.log"),
		Ready: func(context.Context) error { return errNotRunning }, keepLog: true,
	})
	is.NoErr(dir.remove())
	_, log, found := strings.Cut(err.Error(), "; its log: ")
	is.True(found)
	content, err := os.ReadFile(log)
	is.NoErr(err)
	is.Equal(string(content), "no coffee\n")
}
