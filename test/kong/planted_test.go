package kong

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// A planted mistake is a text put in the place of another, and the rule that it trips.
type planted struct{ mistake, old, with, rule string }

func TestPlantedInDeclarative(t *testing.T) {
	t.Parallel()
	rows := []planted{
		{"a key of decK's, which DB-less refuses", `_format_version: "3.0"`, "_format_version: \"3.0\"\n_info: {select_tags: [coffeebuddy]}", "keys"},
		{"a misspelt key", "read_timeout:", "read_time_out:", "keys"},
		{"a key that is there twice", "    retries: 1", "    retries: 1\n    retries: 1", "keys"},
		{"a certificate, which would bring its key", "upstreams:", "certificates: []\nupstreams:", "keys"},
		{"an old format", `"3.0"`, `"2.1"`, "version"},
		{"a format that is a number", `"3.0"`, `3.0`, "version"},
		{"a plugin without a tag", "          bandwidth_metrics: true\n        tags: [coffeebuddy]", "          bandwidth_metrics: true", "tagged"},
		{"a target without a tag", ":80 # yours, where it is not Kourier\n        tags: [coffeebuddy]", ":80", "tagged"},
		{"somebody else's tag", "    tags: [coffeebuddy]\n\n    routes:", "    tags: [team-a]\n\n    routes:", "tagged"},
		{"Slack's token in a comment", "# What Kong", "# xoxb-1234567890\n# What Kong", "no-secret"},
		{"a private key", "# What Kong", "# -----BEGIN PRIVATE KEY-----\n# What Kong", "no-secret"},
		{"a global plugin", "upstreams:", "plugins:\n  - name: prometheus\n    tags: [coffeebuddy]\nupstreams:", "nothing-global"},

		{"a route for every host", "        hosts: [coffeebuddy.example.com] # yours\n        protocols: [https]", "        protocols: [https]", "one-host"},
		{"a host with a wildcard", "[coffeebuddy.example.com]", `["*.example.com"]`, "one-host"},
		{"a host changed in one place only", "[coffeebuddy.example.com]", "[coffee.example.org]", "one-host"},
		{"a path that Slack needs is missing", "          - ~/slack/events\\z\n", "", "slack-paths"},
		{"readiness made public", "          - ~/slack/events\\z\n", "          - ~/slack/events\\z\n          - ~/health/ready\\z\n", "slack-paths"},
		{"a regular expression without its tilde", `~/slack/events\z`, `/slack/events\z`, "anchored"},
		{"a regular expression without its end", `~/slack/events\z`, "~/slack/events", "anchored"},
		{"an end that lets a newline through", `~/slack/events\z`, "~/slack/events$", "anchored"},
		{"a prefix for all that is Slack's", `~/slack/events\z`, "/slack/", "anchored"},
		{"GET let through", "[POST]", "[GET, POST]", "post-only"},
		{"every method let through", "        methods: [POST]\n", "", "post-only"},
		{"plain HTTP let through", "protocols: [https]", "protocols: [http, https]", "https-only"},
		{"the protocols left at their default", "        protocols: [https]\n", "", "https-only"},
		{"a redirect to HTTPS", "status_code: 426", "status_code: 301", "no-redirect"},
		{"strip_path at its default", "        strip_path: false # the default would send \"/\"\n", "", "strip-path"},
		{"Slack's Host kept", "preserve_host: false", "preserve_host: true", "host"},
		{"no host_header", "    host_header: coffeebuddy.coffeebuddy.svc.cluster.local\n", "", "host"},
		{"a port in host_header", "host_header: coffeebuddy.coffeebuddy.svc.cluster.local", "host_header: coffeebuddy.coffeebuddy.svc.cluster.local:80", "host"},
		{"a target port that Kong appends to the Host", "svc.cluster.local:80 # yours", "svc.cluster.local:8081 # yours", "host"},
		{"a target without its port", "svc.cluster.local:80 # yours", "svc.cluster.local # yours", "host"},
		{"bodies passed on while they come", "strip_path: false # the", "request_buffering: false\n        strip_path: false # the", "buffered"},

		{"nothing that denies the rest", "  - name: coffeebuddy-deny\n    hosts: [coffeebuddy.example.com] # yours\n    protocols: [http, https]\n    paths: [/]", "  - name: coffeebuddy-deny\n    hosts: [coffeebuddy.example.com]\n    protocols: [http, https]\n    paths: [/health]", "denied"},
		{"the rest denied for GET alone", "    paths: [/]\n", "    paths: [/]\n    methods: [GET]\n", "denied"},
		{"the rest denied for HTTPS alone", "protocols: [http, https]", "protocols: [https]", "denied"},
		{"a refusal with status 200", "status_code: 404", "status_code: 200", "denied"},
		{"a refusal that a header switches on", "status_code: 404", "status_code: 404\n          trigger: X-Deny", "denied"},
		{"another plugin in place of the refusal", "- name: request-termination", "- name: response-ratelimiting", "denied"},

		{"a timeout that outlasts Slack", "read_timeout: 2850", "read_timeout: 2950", "before-slack"},
		{"connecting at Kong's default of a minute", "    connect_timeout: 50\n", "", "before-slack"},
		{"retries that add up", "retries: 1", "retries: 3", "before-slack"},
		{"a timeout before the function's last response", "read_timeout: 2850", "read_timeout: 2750", "after-function"},
		{"no second attempt to connect", "retries: 1", "retries: 0", "retries"},
		{"retries at Kong's default of five", "    retries: 1 # a POST is sent again only where no connection came about, so never twice\n", "", "retries"},
		{"an active health check", "    targets:", "    healthchecks: {active: {healthy: {interval: 5}}}\n    targets:", "health-checks"},
		{"an upstream that is not there", "host: coffeebuddy-knative", "host: coffeebuddy-native", "health-checks"},

		{"a plugin that answers from a cache", "- name: correlation-id", "- name: proxy-cache", "plugins"},
		{"a plugin that Slack has no key for", "      - name: correlation-id", "      - name: key-auth\n        tags: [coffeebuddy]\n      - name: correlation-id", "plugins"},
		{"a key that the plugin does not have", "          minute: 3000", "          minutes: 3000", "plugins"},
		{"a limiter that is missing", "- name: rate-limiting", "- name: rate-limiting-advanced", "plugins"},
		{"bot-detection", "      - name: correlation-id", "      - name: bot-detection\n        tags: [coffeebuddy]\n      - name: correlation-id", "bot-detection"},
		{"a list of Slack's addresses", "      - name: correlation-id", "      - name: ip-restriction\n        config: {allow: [192.0.2.0/24]}\n        tags: [coffeebuddy]\n      - name: correlation-id", "ip-list"},
		{"bodies of ten MiB", "allowed_payload_size: 4 ", "allowed_payload_size: 10 ", "body-size"},
		{"bodies of one kilobyte", "size_unit: megabytes", "size_unit: kilobytes", "body-size"},
		{"a Content-Length that HTTP/2 need not send", "require_content_length: false", "require_content_length: true", "body-size"},
		{"a field added to the body", "          remove:\n", "          add: {body: [\"gateway:kong\"]}\n          remove:\n", "body-untouched"},
		{"another method", "          remove:\n", "          http_method: PUT\n          remove:\n", "body-untouched"},
		{"Slack's signature taken away", "- Client-Cert # RFC 9440", "- Client-Cert\n              - X-Slack-Signature", "slack-headers"},
		{"the media type replaced", "          remove:\n", "          replace: {headers: [\"Content-Type:application/json\"]}\n          remove:\n", "slack-headers"},
		{"a forged K-Original-Host", "              - K-Original-Host # becomes the Host\n", "", "forged-headers"},
		{"a forged User-Agent of the kubelet", "              - User-Agent # \"kube-probe/\" is believed like K-Kubelet-Probe\n", "", "forged-headers"},
		{"a forged client certificate", "X-Client-Certificate-SAN # Slack's proposal for mutual TLS", "X-Client-SAN", "forged-headers"},
		{"a limit that all callers share", "limit_by: ip", "limit_by: service", "limiter-shared"},
		{"a limit by a header that a stranger chooses", "limit_by: ip", "limit_by: header", "limiter-shared"},
		{"a limit by nothing said", "          limit_by: ip # a count shared by all callers would let a stranger lock Slack out\n", "", "limiter-shared"},
		{"a limit that hits Slack", "minute: 3000", "minute: 600", "limiter-slack"},
		{"a limit that stops no flood", "minute: 3000", "minute: 1000000", "limiter-slack"},
		{"a limit that a burst of Slack's hits", "minute: 3000", "second: 10\n          minute: 3000", "limiter-slack"},
		{"a count that needs a database", "policy: local", "policy: cluster", "limiter-local"},
		{"request ids under Kong's own name", "header_name: X-Request-Id", "header_name: Kong-Request-ID", "request-id"},
		{"request ids that the function refuses", "generator: uuid ", "generator: uuid#counter ", "request-id"},
		{"Kong's own answers without an id", "echo_downstream: true", "echo_downstream: false", "request-id"},
		{"metrics that are off", "status_code_metrics: true", "status_code_metrics: false", "metrics"},
		{"metrics left at their default", "          latency_metrics: true\n", "", "metrics"},
		{"metrics of everybody's upstreams", "bandwidth_metrics: true", "bandwidth_metrics: true\n          upstream_health_metrics: true", "metrics-global"},
	}
	text := declarativeText(t)
	for _, row := range rows {
		plant(t, row, text, inDeclarative)
	}
	for _, r := range rules() {
		if !slices.ContainsFunc(rows, func(row planted) bool { return row.rule == r.name }) {
			t.Errorf("no planted mistake trips the rule %s", r.name)
		}
	}
}

func TestPlantedInKubernetes(t *testing.T) {
	t.Parallel()
	rows := []planted{
		{"a misspelt key", "backendRefs:", "backends:", "keys"},
		{"a key of another kind", "plugin: correlation-id", "plugin: correlation-id\nglobal: true", "keys"},
		{"a deprecated KongIngress", "kind: KongPlugin", "kind: KongIngress", "kinds"},
		{"a plugin for everybody", "kind: KongPlugin", "kind: KongClusterPlugin", "kinds"},
		{"a plugin made global by its label", "  name: coffeebuddy-metrics\n", "  name: coffeebuddy-metrics\n  labels: {global: \"true\"}\n", "kinds"},
		{"an Ingress beside the HTTPRoute", "kind: HTTPRoute", "kind: Ingress", "kinds"},
		{"an object in another namespace", "namespace: coffeebuddy", "namespace: default", "one-namespace"},
		{"a misspelt annotation", "konghq.com/read-timeout", "konghq.com/read_timeout", "annotations"},
		{"a time in seconds", `konghq.com/read-timeout: "2850"`, `konghq.com/read-timeout: 2.85s`, "annotations"},
		{"a plugin that is not there", "coffeebuddy-body-size,", "coffeebuddy-bodysize,", "plugin-found"},
		{"a backend behind the denial", "        - path: {type: PathPrefix, value: /}", "        - path: {type: PathPrefix, value: /}\n      backendRefs: [{name: coffeebuddy-gateway, port: 80}]", "backend"},
		{"the name of Knative's own Service", "name: coffeebuddy-gateway", "name: coffeebuddy", "backend"},
		{"the gateway's pods in place of its name", "type: ExternalName", "type: ClusterIP", "backend"},
		{"a timeout in the route", "      filters:", "      timeouts: {backendRequest: 2850ms}\n      filters:", "route-timeouts"},

		{"a prefix in place of an exact path", `{type: RegularExpression, value: '/slack/events\z'}`, "{type: PathPrefix, value: /slack/events}", "anchored"},
		{"an exact path, which lets a newline through", `{type: RegularExpression, value: '/slack/events\z'}`, "{type: Exact, value: /slack/events}", "anchored"},
		{"a match without a method", "/slack/commands\\z'}\n          method: POST", "/slack/commands\\z'}", "post-only"},
		{"plain HTTP let through", "    konghq.com/protocols: https\n", "    konghq.com/protocols: http,https\n", "https-only"},
		{"the Host of Slack's request kept", "            hostname: coffeebuddy.coffeebuddy.svc.cluster.local", "            path: {type: ReplaceFullPath, replaceFullPath: /}", "host"},
		{"another path than Slack signed for", "            hostname: coffeebuddy.coffeebuddy.svc.cluster.local", "            hostname: coffeebuddy.coffeebuddy.svc.cluster.local\n            path: {type: ReplaceFullPath, replaceFullPath: /}", "body-untouched"},
		{"the path stripped", `strip-path: "false"`, `strip-path: "true"`, "strip-path"},
		{"a header that a stranger may forge", "              - K-Network-Probe\n", "", "forged-headers"},
		{"Slack's timestamp taken away", "- Client-Cert\n", "- X-Slack-Request-Timestamp\n", "slack-headers"},
		{"a limit that all callers share", "limit_by: ip", "limit_by: service", "limiter-shared"},
		{"a timeout that outlasts Slack", `konghq.com/connect-timeout: "50"`, `konghq.com/connect-timeout: "300"`, "before-slack"},
		{"retries left at Kong's default", "    konghq.com/retries: \"1\"\n", "", "retries"},
		{"a route without its limiter", "coffeebuddy-rate-limit,", "", "plugins"},
		{"a denial without its plugin", "    konghq.com/plugins: coffeebuddy-deny\n", "", "denied"},
		{"an object without a tag", "    konghq.com/tags: coffeebuddy\n", "", "tagged"},
	}
	text := kubernetesText(t)
	for _, row := range rows {
		plant(t, row, text, inKubernetes)
	}
	for _, r := range clusterRules() {
		if !slices.ContainsFunc(rows, func(row planted) bool { return row.rule == r.name }) {
			t.Errorf("no planted mistake trips the rule %s", r.name)
		}
	}
}

// plant puts one mistake into a text, and wants its rule to find it.
func plant(t *testing.T, row planted, text string, wrong func(string) []finding) {
	t.Helper()
	t.Run(row.mistake, func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		is.True(strings.Contains(text, row.old)) // nothing to put it in the place of
		tripped := make(map[string]bool)
		for _, f := range wrong(strings.Replace(text, row.old, row.with, 1)) {
			tripped[f.rule] = true
		}
		if !tripped[row.rule] {
			t.Errorf("the rule %s found nothing, others did: %v", row.rule, slices.Sorted(maps.Keys(tripped)))
		}
	})
}
