package main

import (
	"syscall"
	"time"
)

// pause sleeps in the kernel: the runtime's own timers are late by up to a millisecond when nothing else runs.
func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&t, nil) // one that a signal ends is too short, and asked for again
}
