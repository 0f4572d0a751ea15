package kong

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A request as Kong's router sees it, its path already cleaned.
type request struct{ scheme, host, method, path string }

// A reply is Kong's own status, or where the request went.
type reply struct {
	Status int // 0 where it went on

	Target string // host and port that Kong connects to
	Host   string // that Kong sends
	Path   string // that Kong sends
}

// ask answers as Kong does in its traditional router: of the routes that match, the one
// with more kinds of conditions wins, then a regular expression, then the longer path.
func (c *config) ask(r request) (reply, error) {
	type candidate struct {
		way
		conditions int
		kind       pathKind
		path       string // the part that matched
	}
	var candidates []candidate
	ways := c.ways()
	for _, r := range c.Routes {
		w := way{route: r, plugins: make(map[string]plugin)}
		for _, p := range r.Plugins {
			w.plugins[p.Name] = p
		}
		ways = append(ways, w)
	}
	for _, w := range ways {
		if len(w.route.Hosts) > 0 && !slices.Contains(w.route.Hosts, r.host) {
			continue
		}
		if len(w.route.Methods) > 0 && !slices.Contains(w.route.Methods, r.method) {
			continue
		}
		conditions := 0
		for _, list := range [][]string{w.route.Hosts, w.route.Methods, w.route.Paths} {
			if len(list) > 0 {
				conditions++
			}
		}
		if len(w.route.Paths) == 0 {
			candidates = append(candidates, candidate{way: w, conditions: conditions})
		}
		for _, path := range w.route.Paths {
			kind, matched, err := match(path, r.path)
			if err != nil {
				return reply{}, err
			}
			if matched != "" {
				candidates = append(candidates, candidate{w, conditions, kind, matched})
			}
		}
	}
	if len(candidates) == 0 {
		return reply{Status: 404}, nil
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		return cmp.Or(
			cmp.Compare(b.conditions, a.conditions),
			cmp.Compare(b.kind, a.kind),
			cmp.Compare(len(b.path), len(a.path)),
		)
	})
	best := candidates[0]

	if slices.Equal(best.route.Protocols, []string{"https"}) && r.scheme == "http" {
		return reply{Status: or(best.route.HTTPSRedirectStatusCode, defaultRedirect)}, nil
	}
	if p, ok := best.plugins["request-termination"]; ok {
		status, ok := p.Config["status_code"].(int)
		if !ok {
			status = 503
		}
		return reply{Status: status}, nil
	}
	if best.service.Name == "" {
		return reply{Status: 404}, nil // a route without a service has nowhere to go
	}
	path := r.path
	if or(best.route.StripPath, true) {
		path = "/" + strings.TrimPrefix(strings.TrimPrefix(path, best.path), "/")
	}
	targets := c.upstream(best.service.Host).Targets
	if len(targets) == 0 {
		return reply{Status: 503}, nil // no target to choose from
	}
	return reply{Target: targets[0].Target, Host: c.hostSent(best.way, r.host), Path: path}, nil
}

// A pathKind is how a path is written in a route; the greater one goes first.
type pathKind int

const (
	prefix pathKind = iota
	expression
)

// match returns the part of a path that a route's path matches, or nothing.
func match(pattern, path string) (pathKind, string, error) {
	text, isExpression := strings.CutPrefix(pattern, "~")
	if !isExpression {
		if strings.HasPrefix(path, pattern) {
			return prefix, pattern, nil
		}
		return prefix, "", nil
	}
	// In PCRE, which Kong uses, "$" also matches before a newline at the end.
	if start, dollar := strings.CutSuffix(text, "$"); dollar {
		text = start + `(?:\n?\z)`
	}
	re, err := regexp.Compile("^(?:" + text + ")")
	if err != nil {
		return expression, "", fmt.Errorf("path %s: %w", pattern, err)
	}
	return expression, re.FindString(path), nil
}

// hostSent returns the Host that Kong sends: a request-transformer's before the
// client's, before the upstream's, before the target's. To the last two Kong adds the
// target's port where it is not that of the protocol.
func (c *config) hostSent(w way, client string) string {
	for _, header := range w.plugins["request-transformer"].texts("replace", "headers") {
		if name, value, _ := strings.Cut(header, ":"); strings.EqualFold(name, "host") {
			return value
		}
	}
	if w.route.PreserveHost {
		return client
	}
	u := c.upstream(w.service.Host)
	if len(u.Targets) == 0 {
		return w.service.Host
	}
	host, port, _ := strings.Cut(u.Targets[0].Target, ":")
	if u.HostHeader != "" {
		host = u.HostHeader
	}
	if port != "80" && port != "443" {
		host += ":" + port // a target without a port is on 8000
	}
	return host
}
