// Command gate is the function with one more durable Slack command, for tests of what a broker does: /coffee gate NAME asks
// the server that GATE_URL names, and succeeds, fails or is refused as that says.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"coffeebuddy"
	"coffeebuddy/events"
	"coffeebuddy/slack"

	"github.com/cloudevents/sdk-go/v2/event"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	settings, err := coffeebuddy.Load()
	if err != nil {
		return err
	}
	function, err := coffeebuddy.NewFunction(settings, os.Stdout, append(coffeebuddy.Features(), effects, command)...)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(settings.HTTPHost, strconv.Itoa(settings.Port)))
	if err != nil {
		return err
	}
	function.Listening()
	server := &http.Server{Handler: function, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	function.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), settings.ShutdownTimeout)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), function.Wait(ctx))
}

// command is the durable command. It is there if there is a sink.
func command(p coffeebuddy.Platform) error {
	if os.Getenv("K_SINK") == "" {
		return nil
	}
	return p.Slack.Command("/coffee gate", ask(os.Getenv("GATE_URL")), slack.Durable())
}

// ask returns a receiver that asks the server at url about the name in the command's text.
func ask(url string) events.Receiver {
	return func(ctx context.Context, e event.Event) (*event.Event, error) {
		var command struct{ Text string }
		if err := e.DataAs(&command); err != nil {
			return nil, events.Permanent(err)
		}
		_, name, _ := strings.Cut(command.Text, " ")
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/"+name, nil)
		if err != nil {
			return nil, events.Permanent(err)
		}
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request) // the proxy is Slack's
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		switch response.StatusCode {
		case http.StatusOK:
			return slack.Ephemeral(name), nil
		case http.StatusGone:
			return nil, events.Permanent(errors.New("the gate refuses it"))
		}
		return nil, errors.New("the gate is closed")
	}
}
