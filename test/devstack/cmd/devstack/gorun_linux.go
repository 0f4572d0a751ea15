package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// endWithGoRun has this process sent SIGTERM when its parent ends, if that is the go command: go run dies of SIGTERM or SIGKILL without
// passing it on, and would leave the platform running with nobody to stop it.
func endWithGoRun() error {
	parent := os.Getppid()
	name, err := os.ReadFile("/proc/" + strconv.Itoa(parent) + "/comm")
	if err != nil || strings.TrimSpace(string(name)) != "go" {
		return nil //nolint:nilerr // a parent that cannot be looked at is somebody else's
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0)
	if errno != 0 {
		return fmt.Errorf("ask to end with go run: %w", errno)
	}
	if os.Getppid() != parent {
		return fmt.Errorf("go run has ended")
	}
	return nil
}
