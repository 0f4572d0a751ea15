package main

import (
	"net"
	"net/http"
	"sync"
)

// silentConns are the connections on which nothing was sent yet. http.Server waits
// up to 5 s for them when it shuts down, though there is nothing to answer.
type silentConns struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

// changed is the server's ConnState hook.
func (s *silentConns) changed(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.open[conn] = true
	} else {
		delete(s.open, conn)
	}
}

func (s *silentConns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		_ = conn.Close()
	}
}
