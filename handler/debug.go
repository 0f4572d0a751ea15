package handler

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"time"
)

// Debug returns what an engineer may ask a running process, for a listener on loopback
// only: profiles, at the paths that `go tool pprof` knows, and settings as JSON, which
// must hold no secret. It refuses a request for any host but loopback with 403: by DNS,
// a web page in the engineer's browser could be led here.
//
// It is made of runtime/pprof, since net/http/pprof costs half a megabyte of binary, and
// registers itself with http.DefaultServeMux.
func Debug(settings json.Marshaler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/settings", handleSettings(settings))
	mux.HandleFunc("GET /debug/pprof", handleProfiles)
	mux.HandleFunc("GET /debug/pprof/{$}", handleProfiles)
	mux.HandleFunc("GET /debug/pprof/{profile}", handleProfile)
	mux.HandleFunc("GET /debug/pprof/profile", handleRecording(30*time.Second, pprof.StartCPUProfile, pprof.StopCPUProfile))
	mux.HandleFunc("GET /debug/pprof/trace", handleRecording(time.Second, trace.Start, trace.Stop))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Go-Pprof", "1") // go tool pprof shows an error's text then
		switch {
		case !isLoopback(r.Host):
			http.Error(w, "ask for localhost or a loopback address", http.StatusForbidden)
		case !strings.HasPrefix(r.URL.Path, "/") || unclean(r.URL.Path):
			http.NotFound(w, r) // where ServeMux would redirect
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// isLoopback reports whether a Host header, with any port or none, can only mean the
// machine that it comes from.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

func handleSettings(settings json.Marshaler) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		text, err := json.MarshalIndent(settings, "", "  ")
		if err != nil {
			http.Error(w, "the settings are no JSON", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(append(text, '\n'))
	}
}

// handleProfiles lists what there is, a name a line, with how much is in it.
func handleProfiles(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for _, p := range pprof.Profiles() {
		_, _ = fmt.Fprintf(w, "%s %d\n", p.Name(), p.Count())
	}
	_, _ = io.WriteString(w, "profile ?seconds=30\ntrace ?seconds=1\n")
}

// handleProfile answers with a profile that the runtime keeps: as `go tool pprof` reads
// it, or as text with ?debug=1 or 2. ?gc=1 has garbage collected before.
func handleProfile(w http.ResponseWriter, r *http.Request) {
	p := pprof.Lookup(r.PathValue("profile"))
	debug, err := strconv.Atoi(r.FormValue("debug"))
	switch {
	case p == nil:
		http.NotFound(w, r)
		return
	case r.FormValue("debug") != "" && (err != nil || debug < 0 || debug > 2):
		http.Error(w, "debug must be 0, 1 or 2", http.StatusBadRequest)
		return
	case r.FormValue("seconds") != "":
		http.Error(w, "seconds is for profile and trace: compare two of this one with -base", http.StatusBadRequest)
		return
	}
	if r.FormValue("gc") == "1" {
		runtime.GC()
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if debug > 0 {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	_ = p.WriteTo(w, debug) // a client that disconnected gets no response
}

// handleRecording answers with what is recorded for ?seconds=, or until the caller
// leaves. There is one recording of its kind at a time, 409 for a second.
func handleRecording(unset time.Duration, start func(io.Writer) error, stop func()) http.HandlerFunc {
	const longest = 600
	return func(w http.ResponseWriter, r *http.Request) {
		span := unset
		if value := r.FormValue("seconds"); value != "" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil || !(seconds > 0 && seconds <= longest) { // NaN is neither
				http.Error(w, fmt.Sprintf("seconds must be over 0 and at most %d", longest), http.StatusBadRequest)
				return
			}
			span = time.Duration(seconds * float64(time.Second))
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if err := start(w); err != nil {
			http.Error(w, "one is being recorded already", http.StatusConflict)
			return
		}
		defer stop()
		select {
		case <-time.After(span):
		case <-r.Context().Done():
		}
	}
}
