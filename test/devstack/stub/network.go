package stub

import (
	"context"
	"net"
	"sync"
)

// A Network leads to a server. It can be cut: then nothing comes through, and no connection is
// closed, until it is whole again.
type Network struct {
	Address string // where it is entered

	listener net.Listener
	mu       sync.Mutex
	healed   chan struct{} // nil while it is whole
}

// StartNetwork starts one on a free port of host, to the server at an address.
func StartNetwork(ctx context.Context, host, to string) (*Network, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	n := &Network{Address: listener.Addr().String(), listener: listener}
	go n.accept(to)
	return n, nil
}

func (n *Network) accept(to string) {
	for {
		front, err := n.listener.Accept()
		if err != nil {
			return
		}
		back, err := net.Dial("tcp", to)
		if err != nil {
			_ = front.Close()
			continue
		}
		go n.copy(back, front)
		go n.copy(front, back)
	}
}

func (n *Network) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 1<<16)
	for {
		count, err := from.Read(buffer)
		if err != nil {
			return
		}
		n.mu.Lock()
		healed := n.healed
		n.mu.Unlock()
		if healed != nil {
			<-healed
		}
		if _, err := to.Write(buffer[:count]); err != nil {
			return
		}
	}
}

// SetCut cuts it, or makes it whole again.
func (n *Network) SetCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case cut && n.healed == nil:
		n.healed = make(chan struct{})
	case !cut && n.healed != nil:
		close(n.healed)
		n.healed = nil
	}
}

// Close stops it for new connections.
func (n *Network) Close() error { return n.listener.Close() }
