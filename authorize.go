package coffeebuddy

import (
	"context"
	"log/slog"

	"coffeebuddy/checks"
	"coffeebuddy/handler"
)

// authorizer is where the handler's question about a sender's token meets Ory, nil
// where events need no token. Without an Ory to ask nobody is let in.
func authorizer(s Settings, log *slog.Logger) func(context.Context, string) handler.Authorization {
	switch {
	case s.EventsScope == "":
		return nil
	case len(s.Ory.Wrong) > 0:
		return func(context.Context, string) handler.Authorization { return handler.AuthorizationUnknown }
	}
	introspection := checks.NewIntrospection(checks.IntrospectionConfig{
		BaseURL: s.Ory.BaseURL, Scope: s.EventsScope, Audience: s.AppName, Timeout: s.CheckTimeout, Log: log,
	})
	return func(ctx context.Context, token string) handler.Authorization {
		permission, err := introspection.Permission(ctx, token)
		if err != nil {
			return handler.AuthorizationUnknown // it says why in the log, unless the sender has left or too many ask
		}
		switch permission {
		case checks.Permitted:
			return handler.Authorized
		case checks.LacksScope:
			return handler.InsufficientScope
		}
		return handler.InvalidToken
	}
}
