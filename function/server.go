package main

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"coffeebuddy"
)

func newServer(function *coffeebuddy.Function, settings coffeebuddy.Settings) *http.Server {
	const read = 5 * time.Second
	return &http.Server{
		Handler:           function,
		ReadHeaderTimeout: read,                                   // a client that sends no request holds nothing for long
		ReadTimeout:       read,                                   // nor one that sends no body; an event's has more, from its handler
		WriteTimeout:      settings.EventTimeout + 30*time.Second, // from the end of the headers: above the slowest body and the longest receiver
		IdleTimeout:       120 * time.Second,                      // queue-proxy keeps connections for 90 s: shorter would give stray 502s
		MaxHeaderBytes:    32 << 10,                               // an event's attributes are headers
		ErrorLog:          slog.NewLogLogger(function.Log().Handler(), slog.LevelWarn),

		DisableGeneralOptionsHandler: true, // OPTIONS * is a path like any other: 404
	}
}

// cause returns why a listener could not be bound, without the address, which holds
// a setting's value.
func cause(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return errors.New("not an address of this machine")
}

// silentConns are the connections that have not sent a whole request yet. http.Server
// waits up to 5 s for them when it shuts down, though there is nothing to answer.
type silentConns struct{ open sync.Map }

// changed is the server's ConnState hook.
func (s *silentConns) changed(conn net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.open.Store(conn, nil)
	} else {
		s.open.Delete(conn)
	}
}

func (s *silentConns) close() {
	for conn := range s.open.Range {
		_ = conn.(net.Conn).Close()
	}
}
