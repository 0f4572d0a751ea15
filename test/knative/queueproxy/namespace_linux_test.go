package queueproxy

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// within calls do in the namespace: a socket stays in the one that it was made in. do must not start goroutines that make sockets.
func (n namespace) within(do func() error) error {
	ended := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that no other one finds itself in the namespace.
		runtime.LockOSThread()
		ended <- n.enter(do)
	}()
	return <-ended
}

func (n namespace) enter(do func() error) error {
	file, err := os.Open(n.path())
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", n.name(), err)
	}
	return do()
}
