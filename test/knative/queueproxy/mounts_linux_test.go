package queueproxy

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inOwnMounts reports whether this process is the one that again has started.
func inOwnMounts() bool { return os.Getenv(ownMounts) != "" }

const ownMounts = "COFFEEBUDDY_TEST_OWN_MOUNTS"

// again runs this program again with mounts of its own, and returns its exit code. To name a network namespace, ip mounts it, and
// the folder of all names over itself: a container runtime on this machine, which keeps names there as well, could not remove its
// own any more. This way nobody else sees them, and they go with the process.
func again() (code int, err error) {
	runtime.LockOSThread() // which Pdeathsig is about
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Env = append(os.Environ(), ownMounts+"=1")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := command.Start(); err != nil {
		return 0, fmt.Errorf("start again with own mounts: %w", err)
	}
	go func() {
		for s := range signals {
			_ = command.Process.Signal(s) // it may have ended
		}
	}()
	err = command.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		err = nil // it has said why
	}
	return command.ProcessState.ExitCode(), err
}

// hideNamespaces puts an empty folder of this process' own where ip keeps the names.
func hideNamespaces() error {
	if err := os.MkdirAll(namespaceFolder, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", namespaceFolder, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount over %s: %w", namespaceFolder, err)
	}
	return nil
}
