package vault

import (
	"context"
	"net"
	"net/http"

	"coffeebuddy/internal/transport"
)

// Dial makes a client connect with dial, for tests in a synctest bubble: a real socket would stop
// the bubble's clock.
func Dial(c *Client, dial func() net.Conn) {
	clients, err := c.clients()
	if err != nil {
		panic(err)
	}
	next := clients.identified.CloneConfig().HttpClient.Transport.(doubting).next.(transport.Bounded).Next.(*http.Transport)
	next.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial(), nil }
}
