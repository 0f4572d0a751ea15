package kong

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A finding is a mistake: the rule that was broken, by what, and why that is one.
type finding struct{ rule, object, why string }

func (f finding) String() string { return f.object + ": " + f.why + " (" + f.rule + ")" }

// A rule looks for one kind of mistake and says what it found: object and reason.
type rule struct {
	name  string
	check func(*config, report)
}

type report func(object, why string, args ...any)

// rules are the mistakes that Kong takes without a word.
func rules() []rule {
	return []rule{
		{"version", version},
		{"tagged", tagged},
		{"no-secret", noSecret},
		{"nothing-global", nothingGlobal},
		{"one-host", oneHost},
		{"slack-paths", slackPathsOnly},
		{"anchored", anchored},
		{"post-only", postOnly},
		{"https-only", httpsOnly},
		{"no-redirect", noRedirect},
		{"strip-path", stripPath},
		{"host", host},
		{"buffered", buffered},
		{"denied", denied},
		{"before-slack", beforeSlack},
		{"after-function", afterFunction},
		{"retries", retries},
		{"health-checks", healthChecks},
		{"plugins", closedPlugins},
		{"bot-detection", botDetection},
		{"ip-list", ipList},
		{"body-size", bodySize},
		{"body-untouched", bodyUntouched},
		{"slack-headers", slackHeaders},
		{"forged-headers", forged},
		{"limiter-shared", limiterShared},
		{"limiter-slack", limiterSlack},
		{"limiter-local", limiterLocal},
		{"request-id", requestID},
		{"metrics", metrics},
		{"metrics-global", metricsGlobal},
	}
}

// check returns what all rules find.
func check(c *config) []finding {
	var findings []finding
	for _, r := range rules() {
		r.check(c, func(object, why string, args ...any) {
			findings = append(findings, finding{r.name, object, fmt.Sprintf(why, args...)})
		})
	}
	return findings
}

func version(c *config, report report) {
	if c.FormatVersion.Value != "3.0" || c.FormatVersion.Tag != "!!str" {
		report("the file", `_format_version is not the text "3.0"`)
	}
}

func tagged(c *config, report report) {
	need := func(object string, tags []string) {
		if !slices.Contains(tags, "coffeebuddy") {
			report(object, "has no tag coffeebuddy, so a sync by tag leaves it behind")
		}
	}
	plugins := func(of string, plugins []plugin) {
		for _, p := range plugins {
			need(p.Name+" of "+of, p.Tags)
		}
	}
	routes := func(routes []route) {
		for _, r := range routes {
			need(r.Name, r.Tags)
			plugins(r.Name, r.Plugins)
		}
	}
	for _, s := range c.Services {
		need(s.Name, s.Tags)
		plugins(s.Name, s.Plugins)
		routes(s.Routes)
	}
	routes(c.Routes)
	for _, u := range c.Upstreams {
		need(u.Name, u.Tags)
		for _, t := range u.Targets {
			need(t.Target, t.Tags)
		}
	}
}

func noSecret(c *config, report report) {
	secret := regexp.MustCompile(`(?i)\b(xox[a-z]-|xapp-)|-----BEGIN |\b[0-9a-f]{32,}\b|(password|secret|token)\s*:`)
	for number, line := range strings.Split(c.text, "\n") {
		if secret.MatchString(line) {
			report(fmt.Sprintf("line %d", number+1), "looks like a secret; this file is public")
		}
	}
}

func nothingGlobal(c *config, report report) {
	for _, p := range c.Plugins {
		report(p.Name, "is global: it would run for everybody else's routes, too")
	}
}

func oneHost(c *config, report report) {
	routes := slices.Clone(c.Routes)
	for _, w := range c.ways() {
		routes = append(routes, w.route)
	}
	for _, r := range routes {
		if len(r.Hosts) != 1 || strings.Contains(r.Hosts[0], "*") {
			report(r.Name, "needs exactly one host, without a wildcard: it takes other people's requests")
		} else if r.Hosts[0] != routes[0].Hosts[0] {
			report(r.Name, "has another host than %s", routes[0].Name)
		}
	}
}

func slackPathsOnly(c *config, report report) {
	for _, want := range slackPaths() {
		if !slices.ContainsFunc(c.ways(), func(w way) bool { return slices.Contains(w.route.Paths, "~"+want+end) }) {
			report("the routes", "Slack cannot reach %s", want)
		}
	}
	for _, w := range c.ways() {
		if len(w.route.Paths) == 0 {
			report(w.route.Name, "has no path, so it is every path")
		}
		for _, path := range w.route.Paths {
			if !slices.Contains(slackPaths(), strings.TrimSuffix(strings.TrimPrefix(path, "~"), end)) {
				report(w.route.Name, "%s is none of Slack's paths", path)
			}
		}
	}
}

// end is the end of a path in Kong's regular expressions. "$" also matches before a newline at the end.
const end = `\z`

func anchored(c *config, report report) {
	for _, w := range c.ways() {
		for _, path := range w.route.Paths {
			if !strings.HasPrefix(path, "~") {
				report(w.route.Name, `%s is no regular expression without "~": it is taken letter by letter, as a prefix`, path)
			}
			if !strings.HasSuffix(path, end) {
				report(w.route.Name, `%s also matches what only starts so, or has a newline at its end, without "\z"`, path)
			}
		}
	}
}

func postOnly(c *config, report report) {
	for _, w := range c.ways() {
		if !slices.Equal(w.route.Methods, []string{"POST"}) {
			report(w.route.Name, "takes other methods than POST")
		}
	}
}

func httpsOnly(c *config, report report) {
	for _, w := range c.ways() {
		if !slices.Equal(w.route.Protocols, []string{"https"}) {
			report(w.route.Name, "takes other protocols than https")
		}
	}
}

func noRedirect(c *config, report report) {
	for _, w := range c.ways() {
		if or(w.route.HTTPSRedirectStatusCode, defaultRedirect) != 426 {
			report(w.route.Name, "redirects plain HTTP: a POST comes back as a GET, and what was in it has gone over the wire")
		}
	}
}

func stripPath(c *config, report report) {
	for _, w := range c.ways() {
		if or(w.route.StripPath, true) {
			report(w.route.Name, `strip_path, which is the default, sends "/"`)
		}
	}
}

func host(c *config, report report) {
	for _, w := range c.ways() {
		if got := c.hostSent(w, "what Slack sent"); got != knativeHost {
			report(w.route.Name, "sends the Host %s, which Knative's gateway does not know", got)
		}
	}
}

func buffered(c *config, report report) {
	for _, w := range c.ways() {
		if !or(w.route.RequestBuffering, true) {
			report(w.route.Name, "without buffering a slow sender holds one of the function's places")
		}
	}
}

// denied looks at the route for everything else. Its two conditions, host and path, are
// more than those of a catch-all of the platform, and fewer than Slack's three.
func denied(c *config, report report) {
	if len(c.Routes) != 1 {
		report("the routes", "need exactly one without a service, for everything else on the host")
	}
	for _, r := range c.Routes {
		if !slices.Equal(r.Paths, []string{"/"}) && !slices.Equal(r.Paths, []string{"~/$", "/"}) {
			report(r.Name, "does not take every path")
		}
		if len(r.Methods) > 0 {
			report(r.Name, "does not take every method")
		}
		if !slices.Contains(r.Protocols, "http") || !slices.Contains(r.Protocols, "https") {
			report(r.Name, "does not take both http and https")
		}
		i := slices.IndexFunc(r.Plugins, func(p plugin) bool { return p.Name == "request-termination" })
		if i < 0 {
			report(r.Name, "has no request-termination")
			continue
		}
		if status, _ := r.Plugins[i].Config["status_code"].(int); status < 400 || status > 499 {
			report(r.Name, "answers %d, which is no refusal", status)
		}
		for _, key := range []string{"trigger", "echo"} {
			if _, ok := r.Plugins[i].Config[key]; ok {
				report(r.Name, "%s lets a caller choose", key)
			}
		}
	}
}

// beforeSlack adds up the longest that Kong may take: each attempt to connect, and one
// answer, since a request is sent again only where no connection came about.
func beforeSlack(c *config, report report) {
	most := int((slackGivesUp - slackMargin).Milliseconds())
	for _, s := range c.Services {
		attempts := or(s.Retries, defaultRetries) + 1
		connect := attempts * or(s.ConnectTimeout, defaultTimeout)
		answer := max(or(s.ReadTimeout, defaultTimeout), or(s.WriteTimeout, defaultTimeout))
		if connect+answer > most {
			report(s.Name, "may take %d ms, more than %d: Slack has given up by then", connect+answer, most)
		}
	}
}

func afterFunction(c *config, report report) {
	most := int(max(ackMax, replyMax).Milliseconds())
	for _, s := range c.Services {
		if read := or(s.ReadTimeout, defaultTimeout); read <= most {
			report(s.Name, "waits %d ms for the function, which may take %d to respond", read, most)
		}
	}
}

func retries(c *config, report report) {
	for _, s := range c.Services {
		if n := or(s.Retries, defaultRetries); n != 1 {
			report(s.Name, "tries %d times again, not once", n)
		}
	}
}

func healthChecks(c *config, report report) {
	for _, u := range c.Upstreams {
		if len(u.Healthchecks) > 0 {
			report(u.Name, "a health check is a request to Knative: the function never sleeps; and with one target it can only do harm")
		}
		if len(u.Targets) != 1 {
			report(u.Name, "needs exactly one target, Knative's gateway")
		}
	}
	for _, s := range c.Services {
		if c.upstream(s.Host).Name == "" {
			report(s.Name, "has no upstream %s", s.Host)
		}
	}
}
