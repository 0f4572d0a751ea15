package coffeebuddy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"coffeebuddy/handler"
)

// newDebugServer returns a server of its own for [handler.Debug], so that nothing of it
// is on the public port, in the metrics, or in the log.
func newDebugServer(settings Settings, log *slog.Logger) *http.Server {
	if !settings.DebugAddr.IsValid() {
		return new(http.Server) // which never listens
	}
	return &http.Server{
		Addr:              settings.DebugAddr.String(),
		Handler:           handler.Debug(settings),
		ReadHeaderTimeout: 5 * time.Second, // and no WriteTimeout, which would cut a profile short
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),

		DisableGeneralOptionsHandler: true,
	}
}

// ListenDebug serves profiles and settings at COFFEEBUDDY_DEBUG_ADDR, if that is set,
// until [Function.Wait] returns. Its error is that the address cannot be listened on.
func (f *Function) ListenDebug() error {
	if f.debug.Addr == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", f.debug.Addr)
	if err != nil {
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			err = errno // without the address, which is a setting's value
		}
		return fmt.Errorf("listen on COFFEEBUDDY_DEBUG_ADDR: %w", err)
	}
	f.log.Info("listening for debugging", "address", listener.Addr().String())
	go func() { _ = f.debug.Serve(listener) }() // until it is closed
	return nil
}
