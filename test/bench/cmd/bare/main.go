// Command bare is what everything is compared with: net/http and nothing else. With BARE=timeouts it has the timeouts that the
// function's server has; with BARE=headers the headers of a health answer, too.
package main

import (
	"io"
	"net/http"
	"os"

	"coffeebuddy/test/bench/internal/served"
)

func main() {
	variant := os.Getenv("BARE")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", served.Live)
	if variant == "headers" {
		mux = http.NewServeMux()
		mux.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) {
			header := w.Header()
			header.Set("Content-Type", "application/json")
			header.Set("Cache-Control", "no-store")
			header.Set("X-Content-Type-Options", "nosniff")
			header.Set("X-Request-Id", "WJASVS22LPV7DILCZBU4PZ4BDA")
			_, _ = io.WriteString(w, "{\"status\":\"live\"}\n")
		})
	}
	if variant != "" {
		served.Run(mux)
	}
	mux.Handle("GET "+served.MallocsPath, served.WithMallocs(nil))
	served.Exit(http.ListenAndServe(served.Address(), mux)) // no timeouts: that is what bare means
}
