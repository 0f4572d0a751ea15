package coffeebuddy

import (
	"context"
	"log/slog"

	"coffeebuddy/checks"
	"coffeebuddy/handler"
	"coffeebuddy/ory"
	"coffeebuddy/vault"

	"github.com/prometheus/client_golang/prometheus"
)

// clients are those of the dependencies. Each is nil where its settings are missing or
// wrong.
type clients struct {
	vault         *vault.Client
	ory           *ory.Client
	introspection *ory.Introspection
	outgoing      *ory.Outgoing
}

// newClients returns clients that connect to nothing before they are used.
func newClients(s Settings, registry prometheus.Registerer, log *slog.Logger, panicked func()) (clients, error) {
	var (
		c   clients
		err error
	)
	if c.vault, err = newVault(s.Vault, registry, log, panicked); err != nil {
		return c, err
	}
	if c.ory, err = newOry(s.Ory, log); err != nil {
		return c, err
	}
	if c.introspection, err = newIntrospection(s, log, panicked); err != nil {
		return c, err
	}
	c.outgoing, err = newOutgoing(s.OAuth, c.vault, log, panicked)
	return c, err
}

// checkers returns what readiness asks besides the features' own.
func (c clients) checkers() []checks.Checker {
	vaultCheck, oryCheck := checks.Misconfigured("vault"), checks.Misconfigured("ory")
	if c.vault != nil {
		vaultCheck = checks.NewVault(c.vault)
	}
	if c.ory != nil {
		oryCheck = checks.NewOry(c.ory, c.introspection)
	}
	return []checks.Checker{oryCheck, vaultCheck}
}

// newVault returns the client of Vault, nil where its settings are wrong.
func newVault(s VaultSettings, registry prometheus.Registerer, log *slog.Logger, panicked func()) (*vault.Client, error) {
	if warn(log, "vault", s.Wrong) {
		return nil, nil //nolint:nilnil // none
	}
	config := vault.Config{Address: s.Address, Namespace: s.Namespace, CACert: s.CACert, Registry: registry, Log: log, OnPanic: panicked}
	switch {
	case s.Role != "":
		config.Login = vault.Login{Role: s.Role, Mount: s.AuthMount, JWTFile: s.JWTFile}
	case s.TokenFile != "":
		config.Token = vault.TokenFile(s.TokenFile)
	default:
		config.Token = vault.FixedToken(s.Token.Reveal())
	}
	return vault.New(config)
}

// tokenExpiry shows when Vault's token expires, and 0 where there is none to know of.
func tokenExpiry(client *vault.Client) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coffeebuddy_vault_token_expiry_timestamp_seconds",
		Help: "When the Vault token expires, as of its last lookup or renewal; 0 for never, and before the first.",
	}, func() float64 {
		if client.TokenExpiry().IsZero() {
			return 0
		}
		return float64(client.TokenExpiry().Unix())
	})
}

// newOry returns the client of the Ory server, nil where its settings are wrong.
func newOry(s OrySettings, log *slog.Logger) (*ory.Client, error) {
	if warn(log, "ory", s.Wrong) {
		return nil, nil //nolint:nilnil // none
	}
	return ory.New(ory.Config{BaseURL: s.BaseURL})
}

// warn logs what is wrong with a dependency's settings, and reports whether any is.
func warn(log *slog.Logger, dependency string, wrong []Problem) bool {
	for _, p := range wrong {
		log.Warn("dependency is misconfigured", "dependency", dependency,
			"reason", string(checks.ReasonMisconfigured), "variable", p.Variable, "why", p.Why)
	}
	return len(wrong) > 0
}

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
func authorizer(s Settings, introspection *ory.Introspection) func(context.Context, string) (handler.Authorization, string) {
	switch {
	case s.EventsScope == "":
		return nil
	case introspection == nil:
		return func(context.Context, string) (handler.Authorization, string) { return handler.AuthorizationUnknown, "" }
	}
	return func(ctx context.Context, token string) (handler.Authorization, string) {
		permission, principal, err := introspection.Permission(ctx, token)
		if err != nil {
			return handler.AuthorizationUnknown, "" // it says why in the log, unless the sender has left or too many ask
		}
		switch permission {
		case ory.Permitted:
			return handler.Authorized, principal
		case ory.LacksScope:
			return handler.InsufficientScope, ""
		}
		return handler.InvalidToken, ""
	}
}

// newOutgoing returns what makes HTTP clients with access tokens, nil where there are no
// settings for it. The OAuth2 client's credentials are read from Vault before each token.
func newOutgoing(s OAuthSettings, secrets *vault.Client, log *slog.Logger, panicked func()) (*ory.Outgoing, error) {
	if s.Client == nil {
		return nil, nil //nolint:nilnil // none
	}
	return ory.NewOutgoing(ory.OutgoingConfig{
		TokenURL: s.TokenURL,
		Log:      log,
		OnPanic:  panicked,
		Credentials: func(ctx context.Context) (id, secret string, err error) {
			values, err := secrets.Secret(ctx, *s.Client)
			if err != nil {
				return "", "", err
			}
			id, secret = values["client_id"], values["client_secret"]
			if id == "" || secret == "" {
				return "", "", checks.Fail(checks.ReasonMisconfigured, "the secret has no client_id or no client_secret")
			}
			return id, secret, nil
		},
	})
}
