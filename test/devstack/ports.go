package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports for those who do not care which are taken below what systems hand out to outgoing connections, so that a stopped server
// finds its own port free when it starts again.
const (
	firstAnyPort = 20000
	lastAnyPort  = 29999
)

// takePort reserves a TCP port of host for the server name: the preferred one or, saying so, the next free one after it; any when
// preferred is 0. The reservation lasts as long as the state folder and holds among all stacks of the user, so that a server which
// does not listen yet, or is stopped, keeps its port.
func (s *state) takePort(ctx context.Context, name, host string, preferred int, progress io.Writer) (int, error) {
	port, err := s.reserve(ctx, host, preferred)
	if err != nil {
		return 0, fmt.Errorf("find a free port for %s: %w", name, err)
	}
	if preferred != 0 && port != preferred {
		fmt.Fprintf(progress, "port %d is taken: %s takes %d\n", preferred, name, port)
	}
	return port, nil
}

func (s *state) reserve(ctx context.Context, host string, preferred int) (int, error) {
	stacks, unlock, err := lockStacks(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	first, last := preferred, preferred+1000
	if preferred == 0 {
		first, last = firstAnyPort+rand.IntN((lastAnyPort-firstAnyPort)/2), lastAnyPort
	}
	for port := first; port <= min(last, 65535); port++ {
		free, err := isFree(stacks, host, port)
		if err != nil {
			return 0, err
		}
		if !free {
			continue
		}
		if err := os.WriteFile(s.file("port-"+strconv.Itoa(port)), nil, 0o600); err != nil {
			return 0, err
		}
		return port, nil
	}
	return 0, fmt.Errorf("all from %d to %d are taken", first, last)
}

// isFree reports whether nobody listens on the port and no stack has reserved it.
func isFree(stacks, host string, port int) (bool, error) {
	reserved, err := filepath.Glob(filepath.Join(stacks, "*", "port-"+strconv.Itoa(port)))
	if err != nil || len(reserved) > 0 {
		return false, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, listener.Close()
}

// FreePort returns a loopback port that nobody listens on now, for a program that is told its port. It is below those that systems
// hand out to outgoing connections, any of which could take it before the program does, and above those that stacks reserve.
func FreePort(ctx context.Context) (int, error) {
	const first, last = 30000, 32767
	for range 1000 {
		port := first + rand.IntN(last-first+1)
		if listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(defaultHost, strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free", first, last)
}

// urlHost returns the host to dial for a server that listens on host.
func urlHost(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return host
}
