package sink

import (
	"context"
	"net"
)

// Dial makes a Sender connect by dial, for tests on a clock of their own: a real socket would
// stop that clock. It returns what closes the connections that are kept.
func Dial(s *Sender, dial func(context.Context) (net.Conn, error)) (closeIdle func()) {
	s.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	return s.transport.CloseIdleConnections
}
