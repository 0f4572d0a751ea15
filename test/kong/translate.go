package kong

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	kongv1 "github.com/kong/kubernetes-configuration/api/configuration/v1"
	"gopkg.in/yaml.v3"
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// prefixKong starts the annotations that the Kong Ingress Controller reads.
const prefixKong = "konghq.com/"

// translate returns what the Kong Ingress Controller 3 makes of the objects, as far as
// this project uses it:
//
//   - Exact becomes an anchored regular expression, PathPrefix one and a prefix;
//   - a route keeps the client's Host and its path, takes http and https, and its
//     annotations overrule that;
//   - the filters of a rule become one request-transformer, URLRewrite's hostname a
//     header that is replaced and added;
//   - a Service's annotations become the Kong service's keys, its ExternalName and port
//     the upstream's only target.
func (c *cluster) translate() (*config, error) {
	var version yaml.Node
	version.SetString("3.0")
	translated := config{FormatVersion: version, text: c.text}
	for _, r := range c.routes {
		for i, rule := range r.Spec.Rules {
			routes, err := c.translateRule(r, i)
			if err != nil {
				return nil, err
			}
			if len(rule.BackendRefs) == 0 {
				translated.Routes = append(translated.Routes, routes...)
				continue
			}
			ref := rule.BackendRefs[0]
			for _, s := range c.services {
				if s.Name == string(ref.Name) {
					service, upstream := translateService(s, ref)
					service.Routes = routes
					translated.Services = append(translated.Services, service)
					translated.Upstreams = append(translated.Upstreams, upstream)
				}
			}
		}
	}
	return &translated, nil
}

// translateRule makes one route of all matches with the same method.
func (c *cluster) translateRule(r gatewayv1.HTTPRoute, number int) ([]route, error) {
	rule := r.Spec.Rules[number]
	plugins, err := c.translatePlugins(r, rule)
	if err != nil {
		return nil, err
	}
	var routes []route
	for _, match := range rule.Matches {
		var methods []string // nil is every method
		if match.Method != nil {
			methods = []string{string(*match.Method)}
		}
		i := slices.IndexFunc(routes, func(r route) bool { return slices.Equal(r.Methods, methods) })
		if i < 0 {
			i = len(routes)
			routes = append(routes, translateRoute(r, fmt.Sprintf("%s, rule %d, route %d", r.Name, number, i), methods, plugins))
		}
		routes[i].Paths = append(routes[i].Paths, translatePath(match.Path)...)
	}
	return routes, nil
}

func translateRoute(r gatewayv1.HTTPRoute, name string, methods []string, plugins []plugin) route {
	translated := route{
		Name:                    name,
		Protocols:               []string{"http", "https"},
		HTTPSRedirectStatusCode: whole(r.Annotations, "https-redirect-status-code"),
		Methods:                 methods,
		StripPath:               new(annotation(r.Annotations, "strip-path") == "true"),
		PreserveHost:            annotation(r.Annotations, "preserve-host") != "false",
		Plugins:                 plugins,
		Tags:                    list(annotation(r.Annotations, "tags")),
	}
	if protocols := list(annotation(r.Annotations, "protocols")); len(protocols) > 0 {
		translated.Protocols = protocols
	}
	for _, hostname := range r.Spec.Hostnames {
		translated.Hosts = append(translated.Hosts, string(hostname))
	}
	return translated
}

// translatePath returns a match's path in Kong's words. The API server fills in type and
// value where they are missing.
func translatePath(match *gatewayv1.HTTPPathMatch) []string {
	path, kind := "/", gatewayv1.PathMatchPathPrefix
	if match != nil {
		path, kind = or(match.Value, path), or(match.Type, kind)
	}
	switch kind {
	case gatewayv1.PathMatchExact:
		return []string{"~" + path + "$"}
	case gatewayv1.PathMatchRegularExpression:
		return []string{"~" + path}
	default:
		return []string{"~" + path + "$", strings.TrimSuffix(path, "/") + "/"}
	}
}

// translatePlugins returns the plugins of a rule: that of its filters, and those that
// the route's annotation names. A name that is not there is left out.
func (c *cluster) translatePlugins(r gatewayv1.HTTPRoute, rule gatewayv1.HTTPRouteRule) ([]plugin, error) {
	var plugins []plugin
	if transformer := translateFilters(rule.Filters); len(transformer.Config) > 0 {
		transformer.Tags = list(annotation(r.Annotations, "tags")) // the controller gives it the route's
		plugins = append(plugins, transformer)
	}
	for _, name := range list(annotation(r.Annotations, "plugins")) {
		for _, p := range c.plugins {
			if p.Name != name {
				continue
			}
			plugin, err := translatePlugin(p)
			if err != nil {
				return nil, err
			}
			plugins = append(plugins, plugin)
		}
	}
	return plugins, nil
}

// translateFilters makes one plugin of all filters.
func translateFilters(filters []gatewayv1.HTTPRouteFilter) plugin {
	transformer := plugin{Name: "request-transformer", Config: make(map[string]any)}
	set := func(key, part string, values ...string) {
		if len(values) == 0 {
			return
		}
		parts, ok := transformer.Config[key].(map[string]any)
		if !ok {
			parts = make(map[string]any)
			transformer.Config[key] = parts
		}
		list, _ := parts[part].([]any)
		for _, value := range values {
			list = append(list, value)
		}
		parts[part] = list
	}
	for _, f := range filters {
		if f.URLRewrite != nil && f.URLRewrite.Hostname != nil {
			set("replace", "headers", "host:"+string(*f.URLRewrite.Hostname))
			set("add", "headers", "host:"+string(*f.URLRewrite.Hostname))
		}
		if f.URLRewrite != nil && f.URLRewrite.Path != nil {
			set("replace", "uri", string(f.URLRewrite.Path.Type))
		}
		if f.RequestHeaderModifier != nil {
			set("remove", "headers", f.RequestHeaderModifier.Remove...)
			for _, h := range f.RequestHeaderModifier.Set {
				set("replace", "headers", string(h.Name)+":"+h.Value)
				set("add", "headers", string(h.Name)+":"+h.Value)
			}
			for _, h := range f.RequestHeaderModifier.Add {
				set("append", "headers", string(h.Name)+":"+h.Value)
			}
		}
	}
	return transformer
}

func translatePlugin(p kongv1.KongPlugin) (plugin, error) {
	translated := plugin{Name: p.PluginName, Tags: list(annotation(p.Annotations, "tags"))}
	if err := yaml.Unmarshal(p.Config.Raw, &translated.Config); err != nil {
		return plugin{}, fmt.Errorf("%s: %w", p.Name, err)
	}
	return translated, nil
}

func translateService(s corev1.Service, ref gatewayv1.HTTPBackendRef) (service, upstream) {
	tags := list(annotation(s.Annotations, "tags"))
	translated := service{
		Name:           s.Name,
		Host:           s.Name,
		Protocol:       annotation(s.Annotations, "protocol"),
		ConnectTimeout: whole(s.Annotations, "connect-timeout"),
		WriteTimeout:   whole(s.Annotations, "write-timeout"),
		ReadTimeout:    whole(s.Annotations, "read-timeout"),
		Retries:        whole(s.Annotations, "retries"),
		Tags:           tags,
	}
	port := gatewayv1.PortNumber(defaultPort)
	if ref.Port != nil {
		port = *ref.Port
	}
	only := target{Target: fmt.Sprintf("%s:%d", s.Spec.ExternalName, port), Tags: tags}
	return translated, upstream{Name: s.Name, Targets: []target{only}, Tags: tags}
}

// annotation returns the value of one of Kong's annotations.
func annotation(of map[string]string, name string) string { return of[prefixKong+name] }

// list returns the parts of a list between commas.
func list(text string) []string {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// whole returns the number in an annotation. What is none is as good as missing.
func whole(of map[string]string, name string) *int {
	number, err := strconv.Atoi(annotation(of, name))
	if err != nil {
		return nil
	}
	return &number
}
