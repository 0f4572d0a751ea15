package coffeebuddy

import (
	"context"
	"log/slog"

	"coffeebuddy/checks"
	"coffeebuddy/ory"
	"coffeebuddy/vault"
)

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
