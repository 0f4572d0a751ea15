package coffeebuddy

import (
	"errors"
	"fmt"
	"log/slog"
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

	"coffeebuddy/checks"
	"coffeebuddy/handler"
)

// problems collects what is wrong. Its methods return a variable's value, or the
// default if it is unset, and on a wrong one note what is allowed.
type problems []Problem

func (p *problems) add(variable, why string) { *p = append(*p, Problem{variable, why}) }

// join returns all problems as one error, a line each; nil if there are none.
func (p problems) join() error {
	all := make([]error, len(p))
	for i, problem := range p {
		all[i] = problem
	}
	return errors.Join(all...)
}

// set returns a value, "" if it counts as unset: func passes `{{ secret:… }}` and
// its like to a local run as they stand.
func set(value string) string {
	if _, after, ok := strings.Cut(value, "{{"); ok && strings.Contains(after, "}}") {
		return ""
	}
	return value
}

func (p *problems) name(variable, value, unset string) string {
	if value = set(value); value == "" {
		return unset
	}
	if len(value) > 64 || !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }) {
		p.add(variable, "must be printable text of at most 64 bytes")
	}
	return value
}

// oneOf takes the first of the allowed values for unset.
func (p *problems) oneOf(variable, value string, allowed ...string) string {
	if value = set(value); value == "" {
		return allowed[0]
	}
	if !slices.Contains(allowed, value) {
		p.add(variable, "must be one of "+strings.Join(allowed, ", "))
	}
	return value
}

func (p *problems) host(variable, value, unset string) string {
	if value = set(value); value == "" {
		return unset
	}
	_, err := netip.ParseAddr(value)
	label := `[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?`
	if name := regexp.MustCompile(`^` + label + `(\.` + label + `)*$`); err != nil && (!name.MatchString(value) || len(value) > 253) {
		p.add(variable, "must be an IP address or a host name, without a port")
	}
	return value
}

func (p *problems) number(variable, value string, unset, low, high int) int {
	if value = set(value); value == "" {
		return unset
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high || !isDigits(value) {
		p.add(variable, fmt.Sprintf("must be a whole number from %d to %d", low, high))
	}
	return n
}

// isDigits reports whether s has no sign, which strconv would allow.
func isDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

func (p *problems) duration(variable, value string, unset, low, high time.Duration) time.Duration {
	if value = set(value); value == "" {
		return unset
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < low || d > high {
		p.add(variable, fmt.Sprintf("must be a duration from %v to %v, such as 1s or 250ms", low, high))
	}
	return d
}

func (p *problems) level(variable, value string) slog.Level {
	var level slog.Level
	switch p.oneOf(variable, value, "info", "debug", "warn", "error") {
	case "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	return level
}

// debugAddr takes an address that nothing outside of the machine, or the pod, reaches.
func (p *problems) debugAddr(variable, value string, public int) netip.AddrPort {
	if value = set(value); value == "" {
		return netip.AddrPort{}
	}
	if port, ok := strings.CutPrefix(value, "localhost:"); ok {
		value = "127.0.0.1:" + port // whatever a resolver makes of the name
	}
	// Where the pod's containers share their ports, the one that comes second does not
	// start. Knative refuses these for PORT, and cannot see this one.
	queueProxy := []uint16{8008, 8012, 8013, 8022, 8112, 9090, 9091}
	addr, err := netip.ParseAddrPort(value)
	switch {
	case err != nil || !addr.Addr().IsLoopback() || addr.Addr().Zone() != "":
		p.add(variable, "must be a loopback address and a port, such as 127.0.0.1:6060")
	case addr.Port() > 0 && int(addr.Port()) == public:
		p.add(variable, "must be another port than the function's own")
	case slices.Contains(queueProxy, addr.Port()):
		p.add(variable, "must be no port of Knative's queue-proxy: "+strings.Trim(fmt.Sprint(queueProxy), "[]"))
	}
	return addr
}

// metricsPath takes a path that the mux, a scraper and an annotation read alike.
func (p *problems) metricsPath(variable, value, unset string) string {
	if value = set(value); value == "" {
		return unset
	}
	taken := []string{
		handler.LivePath, handler.ReadyPath, handler.EventsPath,
		"/slack/commands", "/slack/interactions", "/slack/events",
	}
	plain := regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)
	if !plain.MatchString(value) || path.Clean(value) != value || slices.Contains(taken, value) {
		p.add(variable, "must be a plain absolute path, such as /metrics, that is no other route of the function")
	}
	return value
}

// scope takes one scope-token (RFC 6749, section 3.3), which goes into a header.
func (p *problems) scope(variable, value string) string {
	value = set(value)
	if len(value) > 128 || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		p.add(variable, "must be one OAuth2 scope: at most 128 of printable ASCII, without space, quotation mark and backslash")
	}
	return value
}

// kv takes where Vault keeps a value, nil for unset. The mount is the first segment:
// which of several are the mount only Vault knows.
func (p *problems) kv(variable, value string) *checks.KV {
	if value = set(value); value == "" {
		return nil
	}
	place := regexp.MustCompile(`^([A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*)#([A-Za-z0-9._~-]+)$`).FindStringSubmatch(value)
	if place == nil || path.Clean("/"+place[1]+"/"+place[2]) != "/"+place[1]+"/"+place[2] {
		p.add(variable, "must be mount/path#key of a KV secret, such as secret/coffeebuddy/slack#signing_secret")
		return nil
	}
	return &checks.KV{Mount: place[1], Path: place[2], Key: place[3]}
}

// baseURL returns "" for a URL that is missing or wrong; refuse says why the
// dependency cannot be at one that is a base URL otherwise, "" if it can.
func (p *problems) baseURL(variable, value string, refuse func(*url.URL) string) string {
	if value = set(value); value == "" {
		p.add(variable, "is not set")
		return ""
	}
	u, err := url.Parse(value)
	why := ""
	switch {
	case err != nil: // its text quotes the value
		why = "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		why = "must start with http:// or https://"
	case u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		why = "must name a host"
	case u.User != nil:
		why = "must not hold a user or a password"
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(value, "#"):
		why = "must not have a query or a fragment"
	case u.Port() != "" && !isPort(u.Port()):
		why = "must have a port from 1 to 65535"
	default:
		why = refuse(u)
	}
	if why != "" {
		p.add(variable, why)
		return ""
	}
	return value
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

// token drops surrounding white space, which secrets that come from files have.
func (p *problems) token(variable string, value Secret) Secret {
	text := strings.TrimSpace(set(value.Reveal()))
	switch {
	case text == "":
		p.add(variable, "is not set")
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		p.add(variable, "must be printable ASCII without white space")
	}
	return NewSecret(text)
}

// header takes a value that can be sent in a header.
func (p *problems) header(variable, value string) string {
	value = set(value)
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		p.add(variable, "must be printable ASCII")
	}
	return value
}
