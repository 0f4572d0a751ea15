//go:build !linux

package devstack

import "syscall"

// childAttributes puts a child into a process group of its own, so that Ctrl-C reaches this process alone. A child without a
// family outlives a launcher that is killed: only Linux has the means.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// suspended cannot be asked for here; a signal takes microseconds to arrive.
func suspended(int) error { return nil }
