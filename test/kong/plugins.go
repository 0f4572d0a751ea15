package kong

import (
	"maps"
	"slices"
	"strings"
)

// knownPlugins are those that a route to Slack may have, with the keys that we have
// thought about. Another one needs a thought first, and a line here.
func knownPlugins() map[string][]string {
	return map[string][]string{
		"correlation-id":        {"header_name", "generator", "echo_downstream"},
		"rate-limiting":         {"second", "minute", "hour", "limit_by", "policy", "hide_client_headers"},
		"request-size-limiting": {"allowed_payload_size", "size_unit", "require_content_length"},
		"request-transformer":   {"remove", "replace", "add", "append", "rename", "http_method"},
		"prometheus":            {"status_code_metrics", "latency_metrics", "bandwidth_metrics", "upstream_health_metrics"},

		// Refused by rules of their own.
		"bot-detection":  {"allow", "deny"},
		"ip-restriction": {"allow", "deny", "status", "message"},
	}
}

func closedPlugins(c *config, report report) {
	for _, w := range c.ways() {
		for _, name := range slices.Sorted(maps.Keys(w.plugins)) {
			known, ok := knownPlugins()[name]
			if !ok {
				report(w.route.Name, "nobody has thought about %s on Slack's way: it may change the body, or refuse Slack", name)
				continue
			}
			for _, key := range slices.Sorted(maps.Keys(w.plugins[name].Config)) {
				if !slices.Contains(known, key) {
					report(name, "has no key %s, or none that we have thought about", key)
				}
			}
		}
		for _, name := range []string{"correlation-id", "rate-limiting", "request-size-limiting", "request-transformer", "prometheus"} {
			if _, ok := w.plugins[name]; !ok {
				report(w.route.Name, "has no %s", name)
			}
		}
	}
}

func botDetection(c *config, report report) {
	for _, w := range c.ways() {
		if _, ok := w.plugins["bot-detection"]; ok {
			report(w.route.Name, `bot-detection answers 403 to "Slackbot 1.0"`)
		}
	}
}

func ipList(c *config, report report) {
	for _, w := range c.ways() {
		if _, ok := w.plugins["ip-restriction"]; ok {
			report(w.route.Name, "Slack has no fixed addresses: a list of them locks it out one day")
		}
	}
}

func bodySize(c *config, report report) {
	for _, w := range c.ways() {
		limit := w.plugins["request-size-limiting"].Config
		unit := map[any]int{nil: 1 << 20, "megabytes": 1 << 20, "kilobytes": 1 << 10, "bytes": 1}[limit["size_unit"]]
		if size, _ := limit["allowed_payload_size"].(int); size*unit != bodyMax {
			report(w.route.Name, "lets bodies of %d bytes through, the function %d", size*unit, bodyMax)
		}
		if limit["require_content_length"] == true {
			report(w.route.Name, "refuses an HTTP/2 body, which needs no Content-Length, with 411")
		}
	}
}

func bodyUntouched(c *config, report report) {
	for _, w := range c.ways() {
		for key, value := range w.plugins["request-transformer"].Config {
			parts, ok := value.(map[string]any)
			if !ok {
				report(w.route.Name, "request-transformer's %s changes the request that Slack signed", key)
			}
			for part := range parts {
				if part != "headers" {
					report(w.route.Name, "request-transformer's %s.%s changes the request that Slack signed", key, part)
				}
			}
		}
	}
}

// slackHeaders lets the Host be set, and nothing of Slack's be taken away.
func slackHeaders(c *config, report report) {
	for _, w := range c.ways() {
		p := w.plugins["request-transformer"]
		for _, header := range p.texts("remove", "headers") {
			lower := strings.ToLower(header)
			if strings.HasPrefix(lower, "x-slack-") || strings.HasPrefix(lower, "content-") || lower == "host" {
				report(w.route.Name, "takes %s away, which the function needs to know a request of Slack's", header)
			}
		}
		for _, key := range []string{"replace", "add", "append", "rename"} {
			for _, header := range p.texts(key, "headers") {
				if name, _, _ := strings.Cut(header, ":"); !strings.EqualFold(name, "host") {
					report(w.route.Name, "%ss the header %s", key, name)
				}
			}
		}
	}
}

func forged(c *config, report report) {
	for _, w := range c.ways() {
		var removed []string
		for _, header := range w.plugins["request-transformer"].texts("remove", "headers") {
			removed = append(removed, strings.ToLower(header))
		}
		for _, header := range forgedHeaders() {
			if !slices.Contains(removed, strings.ToLower(header)) {
				report(w.route.Name, "lets a stranger's %s through", header)
			}
		}
	}
}

func limiterShared(c *config, report report) {
	for _, w := range c.ways() {
		if by := w.plugins["rate-limiting"].Config["limit_by"]; by != "ip" {
			report(w.route.Name, "limits by %v, not by ip: a stranger uses up what is Slack's, or chooses another count each time", by)
		}
	}
}

func limiterSlack(c *config, report report) {
	for _, w := range c.ways() {
		limit := w.plugins["rate-limiting"].Config
		minute, _ := limit["minute"].(int)
		if minute < slackMinute {
			report(w.route.Name, "limits to %d a minute, and Slack may send %d", minute, slackMinute)
		}
		if minute > floodMinute {
			report(w.route.Name, "limits to %d a minute, which is a flood already", minute)
		}
		for _, period := range []string{"second", "hour"} {
			if _, ok := limit[period]; ok {
				report(w.route.Name, "limits by the %s: Slack says nothing about its bursts, and sends again what failed", period)
			}
		}
	}
}

func limiterLocal(c *config, report report) {
	for _, w := range c.ways() {
		if policy := w.plugins["rate-limiting"].Config["policy"]; policy != "local" {
			report(w.route.Name, "counts by the policy %v: without a database there is no cluster, and Redis is one more thing to fail", policy)
		}
	}
}

func requestID(c *config, report report) {
	for _, w := range c.ways() {
		id := w.plugins["correlation-id"].Config
		if id["header_name"] != "X-Request-Id" {
			report(w.route.Name, "the function knows a request by X-Request-Id, not by %v", id["header_name"])
		}
		if id["generator"] != "uuid" {
			report(w.route.Name, `the function takes no id of the generator %v, which has "#" in it`, id["generator"])
		}
		if id["echo_downstream"] != true {
			report(w.route.Name, "Kong's own answers have no id")
		}
	}
}

func metrics(c *config, report report) {
	for _, w := range c.ways() {
		for _, key := range []string{"status_code_metrics", "latency_metrics", "bandwidth_metrics"} {
			if w.plugins["prometheus"].Config[key] != true {
				report(w.route.Name, "%s is off, which is the default", key)
			}
		}
	}
}

func metricsGlobal(c *config, report report) {
	for _, w := range c.ways() {
		if _, ok := w.plugins["prometheus"].Config["upstream_health_metrics"]; ok {
			report(w.route.Name, "upstream_health_metrics is for every upstream of this Kong, not for ours alone")
		}
	}
}
