package devstack_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

func TestProcessTellsHowItEnded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script string
		want   int
	}{
		"with success": {script: "exit 0", want: 0},
		"with a code":  {script: "exit 3", want: 3},
		"of a signal":  {script: "kill -TERM $$", want: 143},
	} {
		for _, family := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				is := is.New(t)
				process, err := devstack.StartProcess(t.Context(), shell(t, test.script, family))
				is.NoErr(err)
				<-process.Ended()
				is.Equal(process.ExitCode(), test.want)
				is.NoErr(process.Stop(t.Context())) // does nothing any more
				is.True(process.Thaw() != nil)      // there is nobody to signal
			})
		}
	}
}

func TestProcessThatDoesNotGetReadyIsKilled(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	command := shell(t, "exec sleep 1000", false)
	notReady := errors.New("not yet")
	command.Ready = func(context.Context) error { return notReady }
	command.ReadyTimeout = 100 * time.Millisecond
	_, err := devstack.StartProcess(t.Context(), command)
	is.True(errors.Is(err, notReady))
	is.True(errors.Is(err, context.DeadlineExceeded))

	command = shell(t, "echo no such coffee; exit 4", false)
	command.Ready = func(context.Context) error { return notReady }
	_, err = devstack.StartProcess(t.Context(), command)
	is.True(strings.Contains(err.Error(), "exit status 4")) // without waiting for the timeout
}

func TestProcessThatWillNotStopIsKilled(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	command := shell(t, "trap '' TERM; echo ready; while true; do sleep 0.01; done", true)
	command.StopTimeout = 100 * time.Millisecond
	command.Ready = func(context.Context) error { return holds(command.Log, "ready") }
	process, err := devstack.StartProcess(t.Context(), command)
	is.NoErr(err)
	err = process.Stop(t.Context())
	is.True(err != nil)
	is.True(!process.Running())
}

func TestProcessEndsWithItsFamilyAndItsContext(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	command := shell(t, "sleep 1000 & echo $!; wait", true)
	command.Ready = func(context.Context) error { return holds(command.Log, "\n") }
	process, err := devstack.StartProcess(ctx, command)
	is.NoErr(err)
	content, err := os.ReadFile(command.Log)
	is.NoErr(err)
	grandchild, err := strconv.Atoi(strings.TrimSpace(string(content)))
	is.NoErr(err)

	cancel()
	<-process.Ended()
	eventually(t, func() bool { return gone(grandchild) })
}

func TestProcessTakesItsFamilyAlongWhenItEnds(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	command := shell(t, "sleep 1000 & echo $!", true)
	process, err := devstack.StartProcess(t.Context(), command)
	is.NoErr(err)
	<-process.Ended()
	is.Equal(process.ExitCode(), 0)
	content, err := os.ReadFile(command.Log)
	is.NoErr(err)
	grandchild, err := strconv.Atoi(strings.TrimSpace(string(content)))
	is.NoErr(err)
	eventually(t, func() bool { return gone(grandchild) })
}

func TestProcessThatCannotStart(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for _, family := range []bool{false, true} {
		command := shell(t, "", family)
		command.Path = "/no/such/program"
		_, err := devstack.StartProcess(t.Context(), command)
		is.True(errors.Is(err, os.ErrNotExist))
	}
}

func shell(t *testing.T, script string, family bool) devstack.Command {
	t.Helper()
	return devstack.Command{
		Name: "shell", Path: "/bin/sh", Args: []string{"-c", script}, Env: os.Environ(),
		Log: filepath.Join(t.TempDir(), "log"), Family: family,
	}
}

// holds returns nil once the file has text in it.
func holds(file, text string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !strings.Contains(string(content), text) {
		return errors.New("it is not there yet")
	}
	return nil
}

// gone reports whether no process has the number any more, or only one that waits to be buried.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}
