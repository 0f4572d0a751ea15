package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// errLocked is what tryLock fails with when someone else holds the lock.
var errLocked = errors.New("another process holds the lock")

// tryLock takes the lock that stands for path, a file it creates. Closing the file gives the lock back, and so does the end
// of this process.
func tryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return file, nil
}

// lock takes a lock as tryLock does, and waits for it as long as ctx lasts.
func lock(ctx context.Context, path string) (*os.File, error) {
	var file *os.File
	err := poll(ctx, func(context.Context) (err error) {
		file, err = tryLock(path)
		return err
	})
	return file, err
}
