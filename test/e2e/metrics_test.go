package e2e

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// metrics are one scrape: the value of each series, by its name with its labels.
type metrics map[string]float64

// metrics scrapes the function.
func (f *function) metrics(ctx context.Context, t *testing.T) metrics {
	t.Helper()
	a := f.get(ctx, t, "/metrics")
	if a.status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", a.status, a.body)
	}
	return readMetrics(a.body)
}

func readMetrics(text string) metrics {
	m := make(metrics)
	for line := range strings.Lines(text) {
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if value, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err == nil {
			m[line[:i]] = value
		}
	}
	return m
}
