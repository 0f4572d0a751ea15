package checks

import (
	"context"
	"net"
	"net/http"
)

// DialVault makes a Vault check connect by dial, for tests on a clock of their own:
// a real socket would stop that clock.
func DialVault(v *Vault, dial func() net.Conn) {
	clients, err := v.clients()
	if err != nil {
		panic(err)
	}
	transport := clients.identified.CloneConfig().HttpClient.Transport.(bounded).next.(*http.Transport)
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial(), nil }
}

// DialIntrospection is DialVault for an Introspection. It returns what closes the
// connections that are kept.
func DialIntrospection(i *Introspection, dial func() net.Conn) (closeIdle func()) {
	transport := i.ory.HTTPClient.Transport.(bounded).next.(*http.Transport)
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial(), nil }
	return transport.CloseIdleConnections
}

// Answers returns how many answers are kept.
func (i *Introspection) Answers() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.answers)
}
