// Package served is what the Go programs that are measured beside the function have in common: where they listen, and one more
// path, which shows what they allocate.
package served

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"
)

// MallocsPath answers with the number of heap objects that the process has allocated so far.
const MallocsPath = "/mallocs"

// Address returns where to listen: on the port of the environment, of loopback.
func Address() string { return net.JoinHostPort("127.0.0.1", os.Getenv("PORT")) }

// Run serves with the function's timeouts, until it cannot.
func Run(next http.Handler) {
	server := &http.Server{
		Addr: Address(), Handler: WithMallocs(next),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 40 * time.Second, IdleTimeout: 120 * time.Second, MaxHeaderBytes: 32 << 10,
	}
	Exit(server.ListenAndServe())
}

// Exit ends the process with an error.
func Exit(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// WithMallocs answers MallocsPath, and hands everything else on.
func WithMallocs(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != MallocsPath {
			next.ServeHTTP(w, r)
			return
		}
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		_, _ = fmt.Fprintln(w, memory.Mallocs)
	})
}

// Live answers a liveness probe as a plain net/http server does.
func Live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{\"status\":\"live\"}\n")
}
