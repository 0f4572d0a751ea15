package devstack

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// childAttributes puts a child into a process group of its own, so that Ctrl-C reaches this process alone, and has it killed when
// the thread that started it ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// suspended returns nil once every thread of the process has stopped.
func suspended(pid int) error {
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "stat"))
	if err != nil {
		return err
	}
	if len(threads) == 0 {
		return errNotRunning
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a thread that has just ended
		}
		if err != nil {
			return err
		}
		// The state follows the name, which is in brackets and may hold any character.
		state := stat[bytes.LastIndexByte(stat, ')')+1:]
		if !bytes.HasPrefix(state, []byte(" T ")) {
			return errors.New("a thread is still running")
		}
	}
	return nil
}
