package checks

import (
	"context"

	"coffeebuddy/ory"
)

// Ory checks that an Ory server is ready and, if events need a token, that it can introspect
// tokens.
type Ory struct {
	client        *ory.Client
	introspection *ory.Introspection
}

// NewOry returns a check that uses the client, and the introspection unless it is nil.
func NewOry(client *ory.Client, introspection *ory.Introspection) Ory {
	return Ory{client, introspection}
}

// Name returns "ory".
func (Ory) Name() string { return "ory" }

// Check checks the server's own readiness and then, if due, that token introspection works at its
// URL.
func (o Ory) Check(ctx context.Context) error {
	if err := o.client.Ready(ctx); err != nil || o.introspection == nil {
		return err
	}
	return o.introspection.Check(ctx)
}
