package main

import (
	"errors"
	"log/slog"
	"net/http"
	"syscall"
	"time"

	"coffeebuddy"
	"coffeebuddy/handler/connections"
)

// newServer returns a server for a listener, which bounds the time that a response may
// take to be read: a WriteTimeout would start with the request, whatever its receiver takes.
func newServer(function *coffeebuddy.Function, listener *connections.Listener) *http.Server {
	const read = 5 * time.Second
	return &http.Server{
		Handler:           listener.Handler(function),
		ConnContext:       listener.Context,
		ConnState:         listener.State,
		ReadHeaderTimeout: read,              // a client that sends no request holds nothing for long
		ReadTimeout:       read,              // nor one that sends no body; an event's has more, from its handler
		IdleTimeout:       120 * time.Second, // queue-proxy keeps connections for 90 s: shorter would give stray 502s
		MaxHeaderBytes:    32 << 10,          // an event's attributes are headers
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
