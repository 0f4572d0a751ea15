package coffeebuddy

import (
	"context"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"coffeebuddy/handler"
	"coffeebuddy/logging"
)

// An Instance is the function for a host that serves by itself, such as func's
// scaffolding: it has the methods that knative.dev/func-go looks for, and knows
// its settings only once it is started.
type Instance struct {
	function  atomic.Pointer[Function] // nil until Start has read the settings
	stopping  atomic.Bool
	unstarted http.Handler
	logs      *logging.Writer
}

// New returns an Instance that is live and nothing else, until it is started.
func New() *Instance {
	return &Instance{unstarted: handler.Unstarted(), logs: logging.NewWriter(os.Stdout)}
}

// Start reads the settings and returns what is wrong with them. The host passes its
// own reading of the environment; it is not needed.
func (i *Instance) Start(context.Context, map[string]string) error {
	settings, err := Load()
	if err != nil {
		return err
	}
	function, err := NewFunction(settings, i.logs, Features()...)
	if err != nil {
		return err
	}
	if err := function.ListenDebug(); err != nil {
		return err
	}
	function.Listening()
	i.function.Store(function)
	return nil
}

// Handle answers one request: until Start has run, 503 on every route but live.
func (i *Instance) Handle(w http.ResponseWriter, r *http.Request) {
	if f := i.function.Load(); f != nil {
		f.ServeHTTP(w, r)
		return
	}
	i.unstarted.ServeHTTP(w, r)
}

// Ready reports whether the settings were good and the function is not stopping.
// func waits for it before it calls a local run a success; whether Vault and Ory
// are there is what GET /health/ready says.
func (i *Instance) Ready(context.Context) (bool, error) {
	return i.function.Load() != nil && !i.stopping.Load(), nil
}

// Alive reports true: a process that can say so is.
func (i *Instance) Alive(context.Context) (bool, error) { return true, nil }

// Stop waits for the work in flight, until ctx ends. The host has stopped serving
// by then.
func (i *Instance) Stop(ctx context.Context) error {
	i.stopping.Store(true)
	f := i.function.Load()
	if f == nil {
		return nil
	}
	f.Drain()
	err := f.Wait(ctx)
	flushed, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = i.logs.Flush(flushed) // a log that nobody reads does not keep the host
	return err
}
