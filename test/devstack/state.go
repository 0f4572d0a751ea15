package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// cacheDir returns a folder in the user's cache directory, which it creates. Binaries and running stacks live there.
func cacheDir(elements ...string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache directory: %w", err)
	}
	dir := filepath.Join(append([]string{cache, "coffeebuddy", "devstack"}, elements...)...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create the cache directory: %w", err)
	}
	return dir, nil
}

// lockSuffix makes the name of a folder's lock from its own.
const lockSuffix = ".lock"

// state is the folder of one running stack or server: data, configuration, logs and the ports it took. Beside it is a lock that its owner
// holds as long as it lives: a folder whose lock is free is a killed launcher's.
type state struct {
	path string
	// remove deletes the folder and what is in it, the reservations of ports included. It may be called again.
	remove func() error
}

// newState makes a folder and removes those that killed launchers have left.
func newState(ctx context.Context) (*state, error) {
	stacks, unlock, err := lockStacks(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(stacks); err != nil {
		return nil, fmt.Errorf("look for what a killed launcher left: %w", err)
	}
	path, err := os.MkdirTemp(stacks, "")
	if err != nil {
		return nil, fmt.Errorf("create the state folder: %w", err)
	}
	lock, err := tryLock(path + lockSuffix)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	remove := sync.OnceValue(func() error {
		if err := removeLocked(path, lock); err != nil {
			return fmt.Errorf("remove the state folder: %w", err)
		}
		return nil
	})
	return &state{path: path, remove: remove}, nil
}

// shared returns the same folder for someone who must not remove it.
func (s *state) shared() *state {
	return &state{path: s.path, remove: func() error { return nil }}
}

// lockStacks returns the folder of all stacks. Until it is unlocked, no other process starts or removes one, or takes a port.
func lockStacks(ctx context.Context) (stacks string, unlock func(), err error) {
	stacks, err = cacheDir("stacks")
	if err != nil {
		return "", nil, err
	}
	file, err := lock(ctx, stacks+".lock")
	if err != nil {
		return "", nil, err
	}
	return stacks, func() { file.Close() }, nil
}

// removeStale removes the folders that nobody holds the lock of. What cannot be removed now, because a killed launcher's servers are still
// ending, is left to the next start.
func removeStale(stacks string) error {
	entries, err := os.ReadDir(stacks)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(stacks, strings.TrimSuffix(entry.Name(), lockSuffix))
		if lock, err := tryLock(path + lockSuffix); err == nil {
			_ = removeLocked(path, lock)
		}
	}
	return nil
}

// removeLocked removes a folder and then its lock, which the caller holds. The lock is the last to go: without it, another launcher
// would take the folder for its own to remove.
func removeLocked(path string, lock *os.File) error {
	return errors.Join(removeOutside(path), os.RemoveAll(path), os.Remove(lock.Name()), lock.Close())
}

// file returns the path of a file in the folder.
func (s *state) file(name string) string { return filepath.Join(s.path, name) }

// inState starts a server in a folder of its own, and removes that if it does not start.
func inState[Server, Options any](
	ctx context.Context, start func(context.Context, *state, Options) (*Server, error), options Options,
) (*Server, error) {
	dir, err := newState(ctx)
	if err != nil {
		return nil, err
	}
	server, err := start(ctx, dir, options)
	if err != nil {
		return nil, errors.Join(err, dir.remove())
	}
	return server, nil
}
