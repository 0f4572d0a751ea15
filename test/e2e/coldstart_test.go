package e2e

import (
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/test/devstack"
)

// TestColdStart is not parallel to others: it is about one probe in its first 60 ms.
func TestColdStart(t *testing.T) {
	p := startPlatform(t, devstack.VaultOptions{})
	for range 5 {
		t.Run("", func(t *testing.T) {
			began := time.Now()
			f := start(t, p.environment()...)
			listened := time.Now()
			is.New(t).Equal(f.probe(t), healthy()) // on the first probe
			t.Logf("listening after %s, ready %s later", listened.Sub(began).Round(time.Millisecond), time.Since(listened).Round(time.Millisecond))
		})
	}
}
