package observability

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"coffeebuddy/slack/slacktest"
	"coffeebuddy/test/devstack"
)

// build builds the function.
func build(t *testing.T) (executable string) {
	t.Helper()
	executable = filepath.Join(t.TempDir(), "function")
	run(t, "go", "../..", "build", "-o", executable, "./function")
	return executable
}

// A function is the built program as a process of its own.
type function struct {
	*devstack.Process

	address string
}

func start(t *testing.T, executable string, variables ...string) function {
	t.Helper()
	is := is.New(t)
	number, err := devstack.FreePort(t.Context())
	is.NoErr(err)
	port := strconv.Itoa(number)
	address := net.JoinHostPort("127.0.0.1", port)
	process, err := devstack.StartProcess(t.Context(), devstack.Command{
		Name: "function", Path: executable, Log: filepath.Join(t.TempDir(), "log"),
		Env: append([]string{
			"PORT=" + port, "COFFEEBUDDY_HTTP_HOST=127.0.0.1", "COFFEEBUDDY_CHECK_TTL=50ms",
			"COFFEEBUDDY_SLACK_SECRET=secret/coffeebuddy/slack#signing_secret",
		}, variables...),
		Ready: func(ctx context.Context) error {
			connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return connection.Close()
		},
	})
	is.NoErr(err)
	t.Cleanup(func() { is.NoErr(process.Close()) })
	return function{process, address}
}

// probed is a function that somebody asks five times a second whether it is ready, until the test ends.
func (f function) probed(t *testing.T) function {
	t.Helper()
	repeat(t, func(ctx context.Context) { _ = send(ctx, f.address, http.MethodGet, "/health/ready", nil, "") })
	return f
}

// used is a function that gets plain JSON, events and slash commands until the test ends.
func (f function) used(t *testing.T, secret devstack.Secret) function {
	t.Helper()
	binary := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/test"}, "Ce-Type": {"boson.fn"}}
	commands := 0
	repeat(t, func(ctx context.Context) {
		_ = send(ctx, f.address, http.MethodPost, "/", http.Header{"Content-Type": {"application/json"}}, `{"message":"hello"}`)
		_ = send(ctx, f.address, http.MethodPost, "/", binary, "")
		commands++
		signed := slacktest.Command(secret.Reveal(), fmt.Sprint("/coffee ping ", commands)) // none like another, which would be a duplicate
		signed.URL.Scheme, signed.URL.Host, signed.RequestURI = "http", f.address, ""
		if response, err := http.DefaultClient.Do(signed.WithContext(ctx)); err == nil {
			response.Body.Close()
		}
	})
	return f
}

// sends is a function that gets durable slash commands, which it sends to its sink, until the test ends.
func (f function) sends(t *testing.T, secret devstack.Secret) function {
	t.Helper()
	commands := 0
	repeat(t, func(ctx context.Context) {
		commands++
		signed := slacktest.Command(secret.Reveal(), fmt.Sprint("/coffee echo ", commands))
		signed.URL.Scheme, signed.URL.Host, signed.RequestURI = "http", f.address, ""
		if response, err := http.DefaultClient.Do(signed.WithContext(ctx)); err == nil {
			response.Body.Close()
		}
	})
	return f
}

// crowded is a function to which somebody opens connections and asks nothing, until the test ends.
func (f function) crowded(t *testing.T) function {
	t.Helper()
	const kept = 70 // more than the function keeps
	var open []net.Conn
	t.Cleanup(func() { // after the last call
		for _, conn := range open {
			conn.Close()
		}
	})
	repeat(t, func(ctx context.Context) {
		for range kept {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", f.address)
			if err != nil {
				return
			}
			if open = append(open, conn); len(open) > kept {
				open[0].Close()
				open = open[1:]
			}
		}
	})
	return f
}

// repeat calls five times a second, until the test ends.
func repeat(t *testing.T, call func(context.Context)) {
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { stop(); <-ended })
	go func() {
		defer close(ended)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			call(ctx)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
}

// send sends a request and returns the answer's status, 0 for none.
func send(ctx context.Context, address, method, path string, header http.Header, body string) int {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		return 0
	}
	maps.Copy(request.Header, header)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}
