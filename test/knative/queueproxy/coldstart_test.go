package queueproxy

import (
	"slices"
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestColdStart is not parallel to others: it is about milliseconds.
func TestColdStart(t *testing.T) {
	p := startPlatform(t)
	var times []time.Duration
	for range 5 {
		t.Run("", func(t *testing.T) {
			times = append(times, startPod(t, p, podOptions{}).becomesReady(t))
		})
	}
	slices.Sort(times)
	is.New(t).True(times[0] < 5*time.Second) // the quickest of them; the rest is for a busy machine
	figure(t, "cold: both processes started to the first 200 of a probe: median %s, slowest %s (of %d)",
		rounded(times[len(times)/2]), rounded(times[len(times)-1]), len(times))
}
