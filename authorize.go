package coffeebuddy

import (
	"context"
	"log/slog"

	"coffeebuddy/handler"
	"coffeebuddy/ory"
)

// newIntrospection returns what asks Ory about senders' tokens, nil where events need
// none, or where there is no Ory to ask.
func newIntrospection(s Settings, log *slog.Logger, panicked func()) (*ory.Introspection, error) {
	if s.EventsScope == "" || len(s.Ory.Wrong) > 0 {
		return nil, nil //nolint:nilnil // none
	}
	return ory.NewIntrospection(ory.IntrospectionConfig{
		BaseURL: s.Ory.BaseURL, Scope: s.EventsScope, Audience: s.EventsAudience,
		Timeout: s.CheckTimeout, TTL: s.CheckTTL, Log: log, OnPanic: panicked,
	})
}

// authorizer adapts an introspection to what the handler asks about a sender's token,
// nil where events need no token. Without an Ory to ask nobody is let in.
func authorizer(s Settings, introspection *ory.Introspection) func(context.Context, string) handler.Authorization {
	switch {
	case s.EventsScope == "":
		return nil
	case introspection == nil:
		return func(context.Context, string) handler.Authorization { return handler.AuthorizationUnknown }
	}
	return func(ctx context.Context, token string) handler.Authorization {
		permission, err := introspection.Permission(ctx, token)
		if err != nil {
			return handler.AuthorizationUnknown // it says why in the log, unless the sender has left or too many ask
		}
		switch permission {
		case ory.Permitted:
			return handler.Authorized
		case ory.LacksScope:
			return handler.InsufficientScope
		}
		return handler.InvalidToken
	}
}
