package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// resources are what a function that leaks has more and more of.
type resources struct {
	goroutines, files int
	memory            float64 // resident, in MiB
}

// resources are those of a function that has just been probed and holds no connection of ours.
func (f *function) resources(t *testing.T) resources {
	t.Helper()
	f.probe(t)
	m := f.metrics(t.Context(), t)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", f.PID()))
	if err != nil {
		t.Skip("no /proc here to count open files in")
	}
	return resources{
		goroutines: int(m["go_goroutines"]),
		files:      len(files),
		memory:     m["process_resident_memory_bytes"] / (1 << 20),
	}
}

// atRest are the least of a second: closed connections take a moment to be noticed.
func (f *function) atRest(t *testing.T) resources {
	t.Helper()
	began, least := time.Now(), f.resources(t)
	eventually(t, soon, func() bool {
		r := f.resources(t)
		least = resources{min(least.goroutines, r.goroutines), min(least.files, r.files), min(least.memory, r.memory)}
		return time.Since(began) > time.Second
	})
	return least
}

func (r resources) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %.1f MiB", r.goroutines, r.files, r.memory)
}
