package handler

import (
	"context"
	"net/http"
)

// healthHeader is the header of every health answer. The slices are shared, which
// net/http allows for, so that a probe allocates none.
func healthHeader() map[string][]string {
	return map[string][]string{
		"Content-Type":           {"application/json"},
		"Cache-Control":          {"no-store"},
		"X-Content-Type-Options": {"nosniff"},
	}
}

// handleLive answers that the process can answer. It asks nobody: a restart does
// not mend a dependency.
func handleLive() http.Handler {
	header, body := healthHeader(), []byte(`{"status":"live"}`+"\n")
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, header, body)
	})
}

// handleReady answers with the verdict in memory.
func handleReady(ready func(context.Context) Readiness) http.Handler {
	header, again := healthHeader(), healthHeader()
	again["Retry-After"] = []string{"1"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch answer := ready(r.Context()); {
		case answer.Ready:
			write(w, http.StatusOK, header, answer.JSON)
		case answer.Retry:
			write(w, http.StatusServiceUnavailable, again, answer.JSON)
		default:
			write(w, http.StatusServiceUnavailable, header, answer.JSON)
		}
	})
}

// Unstarted answers for a function whose settings have not been read yet: it is
// live, and everything else is to be asked again.
func Unstarted() http.Handler {
	header := healthHeader()
	header["Retry-After"] = []string{"1"}
	starting := []byte(`{"status":"degraded","components":{}}` + "\n")
	live := handleLive()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == LivePath && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			live.ServeHTTP(w, r)
			return
		}
		write(w, http.StatusServiceUnavailable, header, starting)
	})
}
