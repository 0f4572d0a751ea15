package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"coffeebuddy/test/bench/internal/processes"
)

// A version of something that was measured, or measured with.
type version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// A machine is what was measured on.
type machine struct {
	Processor string    `json:"processor"`
	Cores     int       `json:"cores"`
	MemoryGiB float64   `json:"memory_gib"`
	Kernel    string    `json:"kernel"`
	Day       time.Time `json:"day"`
}

// thisMachine reads what Linux says of the machine; elsewhere most of it is "unknown".
func thisMachine() machine {
	m := machine{Processor: "unknown", Kernel: runtime.GOOS, Cores: runtime.NumCPU(), Day: time.Now()}
	if after, ok := fieldOf("/proc/cpuinfo", "model name\t: "); ok {
		m.Processor = after
	}
	if after, ok := fieldOf("/proc/meminfo", "MemTotal:"); ok {
		var kib float64
		if _, err := fmt.Sscan(after, &kib); err == nil {
			m.MemoryGiB = kib / (1 << 20)
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		version, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-") // what follows names who has built it
		m.Kernel = "Linux " + version
	}
	return m
}

// fieldOf returns what follows a name in the first line of a file that starts with it.
func fieldOf(file, name string) (string, bool) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(content)) {
		if after, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(after), true
		}
	}
	return "", false
}

// processorTime is what a process and those it has started have used so far.
func processorTime(pid int) time.Duration { return processes.Time(processes.Family(pid)...) }

// resident returns the memory of a process and those it has started, in MiB. What they share with each other is counted once.
func resident(pid int) float64 {
	kib, pids := 0.0, processes.Family(pid)
	for _, pid := range pids {
		file, name := fmt.Sprintf("/proc/%d/status", pid), "VmRSS:"
		if len(pids) > 1 {
			file, name = fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:"
		}
		var n float64
		if field, ok := fieldOf(file, name); ok {
			if _, err := fmt.Sscan(field, &n); err == nil {
				kib += n
			}
		}
	}
	return kib / 1024
}

// load is how many threads wanted a processor in the last minute, as Linux counts them.
func load() (threads float64) {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscan(string(content), &threads) // the kernel writes a number
	return threads
}
