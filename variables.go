package coffeebuddy

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"coffeebuddy/checks"
)

// MarshalJSON implements json.Marshaler: each variable with the value that counts, as it
// would be set, "" for none. A secret is redacted, and of a variable that is wrong there
// is only why.
func (s Settings) MarshalJSON() ([]byte, error) {
	set := map[string]string{
		"COFFEEBUDDY_APP_NAME":         s.AppName,
		"COFFEEBUDDY_ENVIRONMENT":      s.Environment,
		"COFFEEBUDDY_HTTP_HOST":        s.HTTPHost,
		"PORT":                         strconv.Itoa(s.Port),
		"COFFEEBUDDY_METRICS_PATH":     s.MetricsPath,
		"VAULT_ADDR":                   s.Vault.Address,
		"VAULT_TOKEN":                  s.Vault.Token.shown(),
		"VAULT_TOKEN_FILE":             s.Vault.TokenFile,
		"VAULT_NAMESPACE":              s.Vault.Namespace,
		"VAULT_CACERT":                 s.Vault.CACert,
		"ORY_BASE_URL":                 s.Ory.BaseURL,
		"COFFEEBUDDY_CHECK_TTL":        s.CheckTTL.String(),
		"COFFEEBUDDY_CHECK_TIMEOUT":    s.CheckTimeout.String(),
		"COFFEEBUDDY_READY_GRACE":      s.ReadyGrace.String(),
		"COFFEEBUDDY_SHUTDOWN_TIMEOUT": s.ShutdownTimeout.String(),
		"COFFEEBUDDY_EVENTS_IN_FLIGHT": strconv.Itoa(s.EventsInFlight),
		"COFFEEBUDDY_EVENT_TIMEOUT":    s.EventTimeout.String(),
		"COFFEEBUDDY_EVENTS_SCOPE":     s.EventsScope,
		"COFFEEBUDDY_SLACK_SECRET":     place(s.Slack.Secret),
		"COFFEEBUDDY_SLACK_ACK_AFTER":  s.Slack.AckAfter.String(),
		"COFFEEBUDDY_DEBUG_ADDR":       address(s.DebugAddr),
		"COFFEEBUDDY_LOG_LEVEL":        strings.ToLower(s.LogLevel.String()),
	}
	wrong := make(map[string]string)
	for _, all := range [][]Problem{s.Vault.Wrong, s.Ory.Wrong} {
		for _, p := range all {
			wrong[p.Variable] = p.Why
			delete(set, p.Variable)
		}
	}
	return json.Marshal(struct {
		Set     map[string]string `json:"settings"`
		Wrong   map[string]string `json:"wrong,omitempty"`
		Unknown []string          `json:"unknown,omitempty"`
	}{set, wrong, s.Unknown})
}

// shown returns what tells a secret from none.
func (s Secret) shown() string {
	if s.Reveal() == "" {
		return ""
	}
	return redacted
}

func place(kv *checks.KV) string {
	if kv == nil {
		return ""
	}
	return kv.Mount + "/" + kv.Path + "#" + kv.Key
}

func address(addr netip.AddrPort) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}
