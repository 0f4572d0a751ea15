package sink

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 5 * time.Second

	// retryAfterLimit caps Retry-After: the longest that an event's own sender is told to wait.
	retryAfterLimit = time.Hour
)

// retried reports whether Knative's senders retry after a status
// (knative.dev/eventing, pkg/kncloudevents/retries.go).
func retried(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// backoff returns how long to wait after an attempt, the first being 0: it doubles each time,
// and the latter half of it is random.
func backoff(attempt int) time.Duration {
	d := lastBackoff
	if attempt < 7 {
		d = min(firstBackoff<<attempt, lastBackoff)
	}
	return d/2 + rand.N(d/2) //nolint:gosec // jitter
}

// retryAfter parses the header (RFC 9110, section 10.2.3): seconds, or a date. It returns 0 for
// none, and for one that is malformed or past.
func retryAfter(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(retryAfterLimit/time.Second))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), retryAfterLimit)
}
