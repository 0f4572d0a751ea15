package coffeebuddy

import (
	"regexp"
	"strings"
)

// redactor returns a func that returns "[redacted]" in place of a value that holds what looks like a
// credential, such as a token that was pasted where the path of its file belongs. Settings that are
// secrets are redacted by themselves; this is for all others, so it hides rather a harmless value
// too many.
func redactor() func(value string) string {
	credential := regexp.MustCompile("(?:" + strings.Join([]string{
		`\bhv[sbr]\.[\w-]`,                             // Vault's service, batch and recovery tokens
		`^[sbr]\.[\w-]+$`, `\b[sbr]\.[A-Za-z0-9]{20,}`, // those of Vault before 1.10, with a namespace behind them or not
		`\beyJ[\w-]+\.[\w-]+\.`,     // a JSON Web Token
		`\bory_[a-z]+_[\w-]`,        // Ory's access and refresh tokens, authorization codes
		`\bxox[a-z][-.]`, `\bxapp-`, // Slack's tokens
		`(?i)\bbearer\s+\S`,          // a header's value
		`PRIVATE KEY-----`,           // PEM
		`://[^/?#\s]*@`,              // a URL with a user
		`(?i)\bhttps?://[^?#\s]*\?.`, // a URL with a query
	}, ")|(?:") + ")")
	return func(value string) string {
		if credential.MatchString(strings.TrimSuffix(value, "?"+redacted)) {
			return redacted
		}
		return value
	}
}
