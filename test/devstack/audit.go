package devstack

import (
	"io"
	"net"
	"sync"
)

// auditSink takes a Vault's audit log over a Unix socket and throws it away. While it is closed, Vault refuses every request
// that it would have to audit.
type auditSink struct {
	path string

	mu          sync.Mutex
	enabled     bool         // whether Vault knows the device
	listener    net.Listener // nil when closed
	connections []net.Conn
}

// open starts taking the log. Opening an open one does nothing.
func (s *auditSink) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	listener, err := net.Listen("unix", s.path)
	if err != nil {
		return err
	}
	s.listener = listener
	go s.accept(listener)
	return nil
}

func (s *auditSink) accept(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		s.keep(listener, connection)
		go io.Copy(io.Discard, connection)
	}
}

// keep remembers a connection so that close can cut it, and cuts it at once when the sink has been closed meanwhile.
func (s *auditSink) keep(listener net.Listener, connection net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != listener {
		connection.Close()
		return
	}
	s.connections = append(s.connections, connection)
}

// close cuts what is open. On a Unix socket the next write fails at once; over TCP one more could still seem to succeed.
func (s *auditSink) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return
	}
	s.listener.Close()
	for _, connection := range s.connections {
		connection.Close()
	}
	s.listener, s.connections = nil, nil
}
