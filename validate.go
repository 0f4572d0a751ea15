package coffeebuddy

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"coffeebuddy/events/sink"
	"coffeebuddy/handler"
	"coffeebuddy/internal/transport"
	"coffeebuddy/vault"
)

// A variable is one row of [Settings.table]: an environment variable, where it is noted
// that its value is wrong, and the setting that it sets.
type variable struct {
	name     string
	problems *[]Problem
	setting
}

// A setting takes the text of a variable, "" for the default, and shows the value that
// counts as it would be set. What parse returns says what is allowed, "" for a text that
// is; it never quotes the text. The functions below return one for each kind.
type setting struct {
	parse func(text string) (why string)
	show  func() string
}

// text returns the setting of a string. why says what is wrong with a text that is not
// empty, "" for nothing.
func text(to *string, unset string, why func(text string) string) setting {
	return setting{
		parse: func(text string) string {
			if *to = unset; text == "" {
				return ""
			}
			if why := why(text); why != "" {
				return why
			}
			*to = text
			return ""
		},
		show: func() string { return *to },
	}
}

func name(to *string, unset string) setting { return text(to, unset, notName) }

// audience takes the app's name where it is unset.
func audience(to, unset *string) setting {
	return setting{
		parse: func(value string) string { return text(to, *unset, notName).parse(value) },
		show:  func() string { return *to },
	}
}

func notName(text string) string {
	if len(text) > 64 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "must be printable text of at most 64 bytes"
	}
	return ""
}

// oneOf takes the first of the allowed values for unset.
func oneOf(to *string, allowed ...string) setting {
	return text(to, allowed[0], func(text string) string {
		if !slices.Contains(allowed, text) {
			return "must be one of " + strings.Join(allowed, ", ")
		}
		return ""
	})
}

func boolean(to *bool, unset func() bool) setting {
	return setting{
		parse: func(text string) string {
			switch text {
			case "":
				*to = unset()
			case "true", "false":
				*to = text == "true"
			default:
				return "must be true or false"
			}
			return ""
		},
		show: func() string { return strconv.FormatBool(*to) },
	}
}

func host(to *string, unset string) setting {
	label := `[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?`
	return text(to, unset, func(text string) string {
		_, err := netip.ParseAddr(text)
		if name := regexp.MustCompile(`^` + label + `(\.` + label + `)*$`); err != nil && (!name.MatchString(text) || len(text) > 253) {
			return "must be an IP address or a host name, without a port"
		}
		return ""
	})
}

func number(to *int, unset, low, high int) setting {
	return setting{
		parse: func(text string) string {
			if *to = unset; text == "" {
				return ""
			}
			n, err := strconv.Atoi(text)
			if err != nil || n < low || n > high || !isDigits(text) {
				return fmt.Sprintf("must be a whole number from %d to %d", low, high)
			}
			*to = n
			return ""
		},
		show: func() string { return strconv.Itoa(*to) },
	}
}

// isDigits reports whether s has no sign, which strconv would allow.
func isDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// ownPort takes a port. A Service that is called coffeebuddy-http has Kubernetes set the
// variable to tcp://address:port in every pod of its namespace: that counts as unset.
func ownPort(to *int, unset int) setting {
	s := number(to, unset, 1, 65535)
	parse := s.parse
	s.parse = func(text string) string {
		if isServiceLink(text) {
			text = ""
		}
		return parse(text)
	}
	return s
}

// isServiceLink reports whether Kubernetes made a value, for the variable NAME_PORT of a
// Service: a protocol, an IP address and a port.
func isServiceLink(text string) bool {
	protocol, address, _ := strings.Cut(text, "://")
	_, err := netip.ParseAddrPort(address)
	return err == nil && slices.Contains([]string{"tcp", "udp", "sctp"}, protocol)
}

// port takes a port that replaces the one there is.
func port(to *int) setting {
	return setting{
		parse: func(text string) string { return number(to, *to, 1, 65535).parse(text) },
		show:  func() string { return strconv.Itoa(*to) },
	}
}

func duration(to *time.Duration, unset, low, high time.Duration) setting {
	return setting{
		parse: func(text string) string {
			if *to = unset; text == "" {
				return ""
			}
			d, err := time.ParseDuration(text)
			if err != nil || d < low || d > high {
				return fmt.Sprintf("must be a duration from %v to %v, such as 1s or 250ms", low, high)
			}
			*to = d
			return ""
		},
		show: func() string { return to.String() },
	}
}

func level(to *slog.Level) setting {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	return setting{
		parse: func(text string) string {
			level, ok := levels[text]
			if !ok && text != "" {
				return "must be one of info, debug, warn, error"
			}
			*to = level
			return ""
		},
		show: func() string { return strings.ToLower(to.String()) },
	}
}

// debugAddr takes an address that nothing outside of the machine, or the pod, reaches.
func debugAddr(to *netip.AddrPort, public *int) setting {
	// Where the pod's containers share their ports, the one that comes second does not
	// start. Knative refuses these for PORT, and cannot see this one.
	queueProxy := []uint16{8008, 8012, 8013, 8022, 8112, 9090, 9091}
	return setting{
		parse: func(text string) string {
			if text == "" {
				return ""
			}
			if port, ok := strings.CutPrefix(text, "localhost:"); ok {
				text = "127.0.0.1:" + port // whatever a resolver makes of the name
			}
			addr, err := netip.ParseAddrPort(text)
			switch {
			case err != nil || !addr.Addr().IsLoopback() || addr.Addr().Zone() != "":
				return "must be a loopback address and a port, such as 127.0.0.1:6060"
			case addr.Port() > 0 && int(addr.Port()) == *public:
				return "must be another port than the function's own"
			case slices.Contains(queueProxy, addr.Port()):
				return "must be no port of Knative's queue-proxy: " + strings.Trim(fmt.Sprint(queueProxy), "[]")
			}
			*to = addr
			return ""
		},
		show: func() string {
			if !to.IsValid() {
				return ""
			}
			return to.String()
		},
	}
}

// metricsPath takes a path that the mux, a scraper and an annotation read alike.
func metricsPath(to *string, unset string) setting {
	taken := []string{
		handler.LivePath, handler.ReadyPath, handler.EventsPath,
		"/slack/commands", "/slack/interactions", "/slack/events",
	}
	return text(to, unset, func(text string) string {
		plain := regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)
		if !plain.MatchString(text) || path.Clean(text) != text || slices.Contains(taken, text) {
			return "must be a plain absolute path, such as /metrics, that is no other route of the function"
		}
		return ""
	})
}

// scope takes one scope-token (RFC 6749, section 3.3), which goes into a header.
func scope(to *string) setting {
	return text(to, "", func(text string) string {
		if len(text) > 128 || !transport.IsVisible(text) || strings.ContainsAny(text, `"\`) {
			return "must be one OAuth2 scope: at most 128 of printable ASCII, without space, quotation mark and backslash"
		}
		return ""
	})
}

// kvKey takes where Vault keeps one value, as mount/path#key.
func kvKey(to **vault.KV) setting {
	return kv(to, `#([A-Za-z0-9._~-]+)`, "must be mount/path#key of a KV secret, such as secret/coffeebuddy/slack#signing_secret, or mount:path#key where the mount has a slash")
}

// kvPath takes where Vault keeps a secret, as mount/path.
func kvPath(to **vault.KV) setting {
	return kv(to, `()`, "must be mount/path of a secret, such as secret/coffeebuddy/database, or mount:path where the mount has a slash")
}

// kv leaves nil for unset. The mount is the first segment, or all that comes before a
// colon: only Vault knows how many segments belong to the mount.
func kv(to **vault.KV, key, allowed string) setting {
	const segments = `[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*`
	return setting{
		parse: func(text string) string {
			if text == "" {
				return ""
			}
			at := regexp.MustCompile(`^(?:([A-Za-z0-9._~-]+)/|(` + segments + `):)(` + segments + `)` + key + `$`).FindStringSubmatch(text)
			if at == nil {
				return allowed
			}
			found := vault.KV{Mount: at[1] + at[2], Path: at[3], Key: at[4]}
			if whole := "/" + found.Mount + "/" + found.Path; path.Clean(whole) != whole {
				return allowed
			}
			*to = &found
			return ""
		},
		show: func() string {
			if *to == nil {
				return ""
			}
			kv, separator := **to, "/"
			if strings.Contains(kv.Mount, "/") {
				separator = ":"
			}
			return strings.TrimSuffix(kv.Mount+separator+kv.Path+"#"+kv.Key, "#")
		},
	}
}

// databaseURL takes where a PostgreSQL is, without credentials, which Vault has.
func databaseURL(to *string) setting {
	return text(to, "", func(text string) string {
		u, err := url.Parse(text)
		if err != nil || !isDatabase(u) || strings.Contains(text, "#") {
			return "must be postgres://host:port/database, without user and password; " +
				"with no parameters but sslmode (disable, require, verify-ca, verify-full) and sslrootcert (an absolute path)"
		}
		return ""
	})
}

func isDatabase(u *url.URL) bool {
	query, err := url.ParseQuery(u.RawQuery)
	for parameter, values := range query {
		value := values[0]
		switch {
		case len(values) > 1:
			return false
		case parameter == "sslmode" && slices.Contains([]string{"disable", "require", "verify-ca", "verify-full"}, value):
		case parameter == "sslrootcert" && strings.HasPrefix(value, "/"):
		default:
			return false
		}
	}
	database, rooted := strings.CutPrefix(u.Path, "/")
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") && isHost(u) && !strings.Contains(u.Host, ",") &&
		rooted && database != "" && !strings.Contains(database, "/") && isPrintable(database)
}

// endpoint takes a URL that requests are sent to as it is. Its query, which may hold a key,
// is not shown.
func endpoint(to *string) setting {
	s := text(to, "", func(text string) string {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || !isHost(u) || strings.Contains(text, "#") {
			return "must be an absolute URL, http or https, without user, password and fragment"
		}
		return ""
	})
	s.show = func() string {
		if address, _, found := strings.Cut(*to, "?"); found {
			return address + "?" + redacted
		}
		return *to
	}
	return s
}

// isHost reports whether a URL names a host, a good port if any, and no user.
func isHost(u *url.URL) bool {
	return u.Hostname() != "" && !strings.HasSuffix(u.Host, ":") && u.User == nil && (u.Port() == "" || isPort(u.Port()))
}

// overrides takes what a SinkBinding injects: {"extensions":{"name":"value"}}.
func overrides(to *map[string]string) setting {
	const allowed = `must be {"extensions":{"name":"value"}} in JSON, with names of lower case letters and digits that are none of CloudEvents' own, and none that a durable event of Slack's is signed with`
	reserved := []string{
		"specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject", "time", "data", "database64",
		// Overrides are set after signing: the sink would accept the event, and POST / would then refuse it.
		"coffeebuddysignature", "slackretrynum", "slackretryreason",
	}
	return setting{
		parse: func(text string) string {
			if text == "" {
				return ""
			}
			var found struct {
				Extensions map[string]string `json:"extensions"`
			}
			if err := json.Unmarshal([]byte(text), &found); err != nil { // its text may quote the value
				return allowed
			}
			for name, value := range found.Extensions {
				if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || slices.Contains(reserved, name) || !sink.ValidOverride(name, value) {
					return allowed
				}
			}
			*to = found.Extensions
			return ""
		},
		show: func() string {
			if len(*to) == 0 {
				return ""
			}
			shown, err := json.Marshal(map[string]map[string]string{"extensions": maps.Clone(*to)})
			if err != nil {
				return ""
			}
			return string(shown)
		},
	}
}

// certificates takes PEM certificates, at least one and nothing that is none. It shows how many.
func certificates(to *string) setting {
	s := text(to, "", func(text string) string {
		const allowed = "must be PEM certificates"
		rest, found := []byte(text), 0
		for {
			block, after := pem.Decode(rest)
			if block == nil {
				break
			}
			if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
				return allowed
			}
			rest, found = after, found+1
		}
		if found == 0 {
			return allowed
		}
		return ""
	})
	s.show = func() string {
		switch n := strings.Count(*to, "-----BEGIN CERTIFICATE-----"); n {
		case 0:
			return ""
		case 1:
			return "1 certificate"
		default:
			return strconv.Itoa(n) + " certificates"
		}
	}
	return s
}

// isPrintable reports whether s is UTF-8 without control characters.
func isPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// baseURL takes the base URL of a dependency, which must be there; refuse says why the
// dependency cannot be at one that is a base URL otherwise, "" if it can.
func baseURL(to *string, refuse func(*url.URL) string) setting {
	base := text(to, "", func(text string) string {
		u, err := url.Parse(text)
		switch {
		case err != nil: // its text quotes the value
			return "is not a URL"
		case u.Scheme != "http" && u.Scheme != "https":
			return "must start with http:// or https://"
		case u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
			return "must name a host"
		case u.User != nil:
			return "must not hold a user or a password"
		case u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
			return "must not have a query or a fragment"
		case u.Port() != "" && !isPort(u.Port()):
			return "must have a port from 1 to 65535"
		}
		return refuse(u)
	})
	return setting{
		parse: func(text string) string {
			if text == "" {
				return "is not set"
			}
			return base.parse(text)
		},
		show: base.show,
	}
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= 65535
}

// vaultAPI refuses an address with the API's own prefix, which the client adds.
func vaultAPI(u *url.URL) string {
	if slices.Contains(strings.Split(u.Path, "/"), "v1") {
		return "must be the base URL, without /v1"
	}
	return ""
}

// oryNetwork refuses Ory's public network: nothing of ours is sent there, and it
// serves no health route.
func oryNetwork(u *url.URL) string {
	host := "." + strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if strings.HasSuffix(host, ".oryapis.com") || strings.HasSuffix(host, ".ory.sh") {
		return "must be a server of your own, not Ory's public network"
	}
	return ""
}

// token takes Vault's token, without the white space around it that secrets from files
// have. A token file wins over it; a role excludes both; one of the three must be there.
func token(to *VaultSettings) setting {
	return setting{
		parse: func(text string) string {
			text = strings.TrimSpace(text)
			switch {
			case to.Role != "" && (text != "" || to.TokenFile != ""):
				return "must not be set, nor VAULT_TOKEN_FILE, where VAULT_ROLE is: log in, or bring a token"
			case to.Role != "" || to.TokenFile != "":
				return ""
			case text == "":
				return "is not set: set it, or its _FILE variant, or log in with VAULT_ROLE"
			case vault.NoToken(text) != "":
				return vault.NoToken(text)
			}
			to.Token = NewSecret(text)
			return ""
		},
		show: func() string {
			if to.Token.Reveal() == "" {
				return ""
			}
			return redacted
		},
	}
}

// role takes the name of a role of Vault's auth method.
func role(to *string) setting {
	return text(to, "", func(text string) string {
		if len(text) > 128 || !transport.IsVisible(text) {
			return "must be the name of a role: at most 128 of printable ASCII, without white space"
		}
		return ""
	})
}

// mount takes a path of Vault's, without the slashes around it; it matters only with
// the setting that it is for.
func mount(to *string, unset string, with *string) setting {
	return setting{
		parse: func(value string) string {
			why := text(to, unset, func(text string) string {
				if !regexp.MustCompile(`^/?[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?$`).MatchString(text) || slices.Contains(strings.Split(text, "/"), "..") {
					return "must be where an auth method is mounted, such as kubernetes"
				}
				return ""
			}).parse(value)
			*to = strings.Trim(*to, "/")
			if *with == "" {
				return ""
			}
			return why
		},
		show: func() string { return *to },
	}
}

// file takes a path. Whether a file is there is seen when it is read.
func file(to *string, unset string) setting {
	return text(to, unset, func(string) string { return "" })
}

// header takes a value that can be sent in a header.
func header(to *string) setting {
	return text(to, "", func(text string) string {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return "must be printable ASCII"
		}
		return ""
	})
}
