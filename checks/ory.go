package checks

import (
	"context"

	"coffeebuddy/ory"
)

// Ory checks that an Ory server is ready, and where events need a token, that it can be
// asked about tokens.
type Ory struct {
	client        *ory.Client
	introspection *ory.Introspection
}

// NewOry returns a check that asks with a client, and with an introspection unless that
// is nil.
func NewOry(client *ory.Client, introspection *ory.Introspection) Ory {
	return Ory{client, introspection}
}

// Name returns "ory".
func (Ory) Name() string { return "ory" }

// Check asks for the server's own readiness, and then, when it is due, whether there is
// token introspection at its URL.
func (o Ory) Check(ctx context.Context) error {
	if err := o.client.Ready(ctx); err != nil || o.introspection == nil {
		return err
	}
	return o.introspection.Check(ctx)
}
