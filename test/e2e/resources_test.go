package e2e

import (
	"fmt"
	"os"
	"slices"
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

// atRest are those of a second that a quarter of its samples is not above: closed connections take a moment to be noticed, and the
// least of all may be a moment that does not come again, between two connections to a server.
func (f *function) atRest(t *testing.T) resources {
	t.Helper()
	began := time.Now()
	var goroutines, files []int
	var memory []float64
	eventually(t, soon, func() bool {
		r := f.resources(t)
		goroutines, files, memory = append(goroutines, r.goroutines), append(files, r.files), append(memory, r.memory)
		return time.Since(began) > time.Second
	})
	slices.Sort(goroutines)
	slices.Sort(files)
	return resources{goroutines[len(goroutines)/4], files[len(files)/4], slices.Min(memory)}
}

func (r resources) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %.1f MiB", r.goroutines, r.files, r.memory)
}
