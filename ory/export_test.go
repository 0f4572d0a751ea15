package ory

import (
	"context"
	"net"
	"net/http"

	"coffeebuddy/internal/transport"
)

// Dial makes an Introspection connect with dial, for tests in a synctest bubble: a real socket
// would stop the bubble's clock. The func it returns closes idle connections.
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

// Replace makes an Outgoing call the token endpoint through another transport.
func Replace(o *Outgoing, next http.RoundTripper) {
	o.client.Transport = transport.Bounded{Next: next}
}
