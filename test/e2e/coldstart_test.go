package e2e

import (
	"slices"
	"testing"
	"time"

	"coffeebuddy/test/devstack"
)

// TestColdStart is not parallel to others: it is about one probe in its first 60 ms. A busy machine gets up to three starts for each:
// what is broken stays broken at every start.
func TestColdStart(t *testing.T) {
	p := startPlatform(t, devstack.VaultOptions{})
	for range 5 {
		t.Run("", func(t *testing.T) {
			for range 3 {
				began := time.Now()
				f := start(t, p.environment()...)
				listened := time.Now()
				s := f.probe(t) // the first one
				t.Logf("listening after %s, %v %s later", listened.Sub(began).Round(time.Millisecond), s, time.Since(listened).Round(time.Millisecond))
				if s == healthy() {
					return
				}
				for _, said := range []string{s.vault, s.ory} {
					if !slices.Contains([]string{"ok", "pending"}, said) {
						t.Fatalf("it says %v", s) // which no machine is too busy for
					}
				}
			}
			t.Fatal("in three starts it was not ready on the first probe")
		})
	}
}
