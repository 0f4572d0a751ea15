package ory

import (
	"context"
	"net"
	"net/http"

	"coffeebuddy/internal/transport"
)

// Dial makes an Introspection connect by dial, for tests on a clock of their own: a real
// socket would stop that clock. It returns what closes the connections that are kept.
func Dial(i *Introspection, dial func() net.Conn) (closeIdle func()) {
	next := i.api.HTTPClient.Transport.(transport.Bounded).Next.(*http.Transport)
	next.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial(), nil }
	return next.CloseIdleConnections
}

// Answers returns how many answers are cached.
func (i *Introspection) Answers() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.answers)
}

// Replace has an Outgoing ask the token endpoint by another transport.
func Replace(o *Outgoing, next http.RoundTripper) {
	o.client.Transport = transport.Bounded{Next: next}
}
