package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"coffeebuddy/test/devstack"
)

// A platform is a Vault and an Ory server that a program is told of.
type platform struct {
	vault, ory string // base URLs
	token      devstack.Secret
}

// env returns what a program reads of its platform.
func (p platform) env() []string {
	return []string{"VAULT_ADDR=" + p.vault, "ORY_BASE_URL=" + p.ory, "VAULT_TOKEN=" + p.token.Reveal()}
}

// A counter answers what it is asked, and counts.
type counter struct {
	url   string
	asked atomic.Int64
}

// played starts a Vault and an Ory server that answer at once that all is well, and count what they are asked. They end with ctx.
func played(ctx context.Context) (p platform, vault, ory *counter, err error) {
	vault, err = newCounter(ctx, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/sys/health" {
			_, _ = io.WriteString(w, `{"initialized":true,"sealed":false,"standby":false}`)
			return
		}
		_, _ = io.WriteString(w, `{"data":{"id":"s.played","num_uses":0}}`)
	})
	if err != nil {
		return p, nil, nil, err
	}
	ory, err = newCounter(ctx, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"ok"}`) })
	if err != nil {
		return p, nil, nil, err
	}
	return platform{vault.url, ory.url, "s.played"}, vault, ory, nil
}

func newCounter(ctx context.Context, answer http.HandlerFunc) (*counter, error) {
	listener, err := listen(ctx)
	if err != nil {
		return nil, err
	}
	c := &counter{url: "http://" + listener.Addr().String()}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		answer(w, r)
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }() // until it is closed
	return c, nil
}

// hung returns the URL of a server that accepts connections and never answers, until ctx ends.
func hung(ctx context.Context) (url string, err error) {
	listener, err := listen(ctx)
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c) // until its client has had enough
			}()
		}
	}()
	return "http://" + listener.Addr().String(), nil
}

// dead returns the URL of a port that nobody listens on.
func dead(ctx context.Context) (url string, err error) {
	address, err := freeAddress(ctx)
	return "http://" + address, err
}

func freeAddress(ctx context.Context) (string, error) {
	port, err := devstack.FreePort(ctx)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

func listen(ctx context.Context) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return listener, nil
}
