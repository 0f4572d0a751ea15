package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// outsideSuffix makes the name of the link to a folder outside of the state folder.
const outsideSuffix = ".outside"

// unprivileged returns whom to run a server as that refuses to run as root: nil, for this user, unless that is root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// outside returns a new folder for owner. Root's cache directory is closed to everybody else, and root's TMPDIR may
// be, so the folder is in /tmp then. It goes with the state folder, which has a link to it.
func (s *state) outside(name string, owner *syscall.Credential) (string, error) {
	if owner == nil {
		folder := s.file(name)
		return folder, os.Mkdir(folder, 0o700)
	}
	folder, err := os.MkdirTemp("/tmp", "coffeebuddy-"+name+"-")
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Symlink(folder, s.file(name+outsideSuffix)), chown(folder, owner)); err != nil {
		return "", errors.Join(err, os.RemoveAll(folder))
	}
	return folder, nil
}

// removeOutside removes the folders that outside made for the state folder at path.
func removeOutside(path string) error {
	links, err := filepath.Glob(filepath.Join(path, "*"+outsideSuffix))
	for _, link := range links {
		folder, readErr := os.Readlink(link)
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		err = errors.Join(err, os.RemoveAll(folder))
	}
	return err
}

// copyFor copies a file for owner's eyes alone.
func copyFor(owner *syscall.Credential, from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, content, 0o600); err != nil {
		return err
	}
	return chown(to, owner)
}

func chown(path string, owner *syscall.Credential) error {
	if owner == nil {
		return nil
	}
	if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("change the owner: %w", err)
	}
	return nil
}
