package queueproxy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// figure notes what was measured, for the block at the end and for the test's own log.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	file, err := os.OpenFile(setting[string](figuresFlag), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := fmt.Fprintf(file, "  %s\n", line); err != nil {
		t.Fatal(err)
	}
}

// printFigures prints all that was noted.
func printFigures() error {
	notes, err := os.ReadFile(setting[string](figuresFlag))
	if os.IsNotExist(err) {
		return nil // no test that measures was run
	}
	if err != nil {
		return err
	}
	lines := slices.Sorted(strings.Lines(string(notes)))
	fmt.Printf("measured behind queue-proxy:\n%s", strings.Join(lines, ""))
	return nil
}

// rounded is a time as people read it.
func rounded(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}
