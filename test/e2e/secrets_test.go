package e2e

import (
	"net/url"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// secrets are what the function is told and must show nobody, by the name of the variable.
type secrets map[string][]string

// secretsOf takes the secrets out of a function's settings: of the token every piece of 8 bytes, of a URL the host with its port, and
// the path.
func secretsOf(variables []string) secrets {
	const piece = 8
	s := make(secrets)
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		s[name] = nil // of a name that comes twice the last one counts
		switch name {
		case "VAULT_TOKEN":
			for i := range max(len(value)-piece+1, 0) {
				s[name] = append(s[name], value[i:i+piece])
			}
		case "VAULT_CACERT":
			s[name] = []string{value}
		case "VAULT_ADDR", "ORY_BASE_URL":
			if u, err := url.Parse(value); err == nil {
				s[name] = append(s[name], u.Host)
				if path := strings.Trim(u.Path, "/"); path != "" {
					s[name] = append(s[name], path)
				}
			}
		}
	}
	return s
}

// shownIn returns the name of a variable of which text shows something, or nothing.
func (s secrets) shownIn(text string) string {
	for name, pieces := range s {
		for _, piece := range pieces {
			if strings.Contains(text, piece) {
				return name
			}
		}
	}
	return ""
}

func TestSecretsAreFound(t *testing.T) {
	t.Parallel()
	s := secretsOf([]string{"PORT=1", "VAULT_TOKEN=hvs.abcdefghijkl", "VAULT_ADDR=https://127.0.0.1:2/", "ORY_BASE_URL=http://127.0.0.1:3/pre/fix//"})
	for text, want := range map[string]string{
		"nothing of them, but PORT=1": "",
		"token=hvs.abc…":              "",
		`"cdefghij"`:                  "VAULT_TOKEN",
		"dial tcp 127.0.0.1:2: no":    "VAULT_ADDR",
		"GET /pre/fix/health/ready":   "ORY_BASE_URL",
	} {
		is.New(t).Equal(s.shownIn(text), want) // text
	}
}
