package kong

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	kongv1 "github.com/kong/kubernetes-configuration/api/configuration/v1"
	"gopkg.in/yaml.v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	kyaml "sigs.k8s.io/yaml"
)

// cluster is what kubernetes/ puts into a cluster, as the controllers' own types.
type cluster struct {
	services []corev1.Service
	plugins  []kongv1.KongPlugin
	routes   []gatewayv1.HTTPRoute

	text string // as it was written
}

// A document is one Kubernetes object as text.
type document struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	text []byte
}

// documents splits a text into its objects.
func documents(text string) ([]document, error) {
	var documents []document
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var node yaml.Node
		if err := decoder.Decode(&node); errors.Is(err, io.EOF) {
			return documents, nil
		} else if err != nil {
			return nil, fmt.Errorf("split the documents: %w", err)
		}
		var buffer bytes.Buffer
		if err := yaml.NewEncoder(&buffer).Encode(&node); err != nil {
			return nil, fmt.Errorf("split the documents: %w", err)
		}
		d := document{text: buffer.Bytes()}
		if err := kyaml.Unmarshal(d.text, &d); err != nil {
			return nil, fmt.Errorf("read what an object is: %w", err)
		}
		documents = append(documents, d)
	}
}

// read reads objects strictly. What is of another kind is left to [kinds].
func read(text string) (*cluster, []document, error) {
	documents, err := documents(text)
	if err != nil {
		return nil, nil, err
	}
	c := cluster{text: text}
	for _, d := range documents {
		var err error
		switch d.Kind {
		case "Service":
			c.services, err = add(c.services, d)
		case "KongPlugin":
			c.plugins, err = add(c.plugins, d)
		case "HTTPRoute":
			c.routes, err = add(c.routes, d)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return &c, documents, nil
}

func add[T any](to []T, d document) ([]T, error) {
	var object T
	if err := kyaml.UnmarshalStrict(d.text, &object); err != nil {
		return nil, fmt.Errorf("%s %s: %w", d.Kind, d.Name, err)
	}
	return append(to, object), nil
}

// clusterRules are for what only the Kubernetes form can have wrong.
func clusterRules() []clusterRule {
	return []clusterRule{
		{"kinds", kinds},
		{"one-namespace", oneNamespace},
		{"annotations", annotations},
		{"plugin-found", pluginFound},
		{"backend", backend},
		{"route-timeouts", routeTimeouts},
	}
}

type clusterRule struct {
	name  string
	check func(*cluster, []document, report)
}

// checkCluster returns what the rules of both forms find.
func checkCluster(c *cluster, documents []document) []finding {
	var findings []finding
	for _, r := range clusterRules() {
		r.check(c, documents, func(object, why string, args ...any) {
			findings = append(findings, finding{r.name, object, fmt.Sprintf(why, args...)})
		})
	}
	translated, err := c.translate()
	if err != nil {
		return append(findings, finding{"keys", "the objects", err.Error()})
	}
	return append(findings, check(translated)...)
}

func kinds(_ *cluster, documents []document, report report) {
	for _, d := range documents {
		switch d.APIVersion + " " + d.Kind {
		case "v1 Service", "configuration.konghq.com/v1 KongPlugin", "gateway.networking.k8s.io/v1 HTTPRoute":
		case "configuration.konghq.com/v1 KongIngress":
			report(d.Name, "KongIngress is deprecated, and its routes and proxies are ignored")
		case "configuration.konghq.com/v1 KongClusterPlugin":
			report(d.Name, "a KongClusterPlugin is everybody's")
		default:
			report(d.Name, "nobody has thought about a %s %s here", d.APIVersion, d.Kind)
		}
		if d.Labels["global"] != "" {
			report(d.Name, "the label global makes a plugin run for everybody's routes")
		}
	}
}

func oneNamespace(_ *cluster, documents []document, report report) {
	for _, d := range documents {
		if d.Namespace != "coffeebuddy" {
			report(d.Name, "is in the namespace %q, where the routes do not look", d.Namespace)
		}
	}
}

// annotations looks for what the controller ignores in silence: a key that is
// misspelt, and a number that is none.
func annotations(_ *cluster, documents []document, report report) {
	known := map[string][]string{
		"Service":    {"tags", "protocol", "connect-timeout", "write-timeout", "read-timeout", "retries"},
		"KongPlugin": {"tags"},
		"HTTPRoute":  {"tags", "protocols", "https-redirect-status-code", "strip-path", "preserve-host", "plugins"},
	}
	numbers := []string{"connect-timeout", "write-timeout", "read-timeout", "retries", "https-redirect-status-code"}
	for _, d := range documents {
		for key, value := range d.Annotations {
			name, ours := strings.CutPrefix(key, prefixKong)
			if !ours || !slices.Contains(known[d.Kind], name) {
				report(d.Name, "the controller knows no annotation %s on a %s", key, d.Kind)
			}
			if slices.Contains(numbers, name) && (value == "" || strings.Trim(value, "0123456789") != "") {
				report(d.Name, "the controller ignores %s, which is no number", key)
			}
		}
	}
}

func pluginFound(c *cluster, _ []document, report report) {
	for _, r := range c.routes {
		for _, name := range list(r.Annotations[prefixKong+"plugins"]) {
			if !slices.ContainsFunc(c.plugins, func(p kongv1.KongPlugin) bool { return p.Name == name }) {
				report(r.Name, "names the plugin %s, which is not there: the controller leaves it out", name)
			}
		}
	}
}

// backend looks at what is behind the routes: Knative's gateway for Slack's, nothing at
// all for the one that denies.
func backend(c *cluster, _ []document, report report) {
	for _, s := range c.services {
		if s.Name == knativeName {
			report(s.Name, "is the name of the Service that Knative makes for the function, and puts back")
		}
		if s.Spec.Type != corev1.ServiceTypeExternalName {
			report(s.Name, "is no ExternalName, and there are no pods of Knative's gateway in this namespace")
		}
	}
	for _, r := range c.routes {
		for _, rule := range r.Spec.Rules {
			everything := func(m gatewayv1.HTTPRouteMatch) bool { return len(translatePath(m.Path)) > 1 }
			if slices.ContainsFunc(rule.Matches, everything) && len(rule.BackendRefs) > 0 {
				report(r.Name, "has a backend behind a prefix: without its plugin it would be a way to the function")
			}
			for _, ref := range rule.BackendRefs {
				if !slices.ContainsFunc(c.services, func(s corev1.Service) bool { return s.Name == string(ref.Name) }) {
					report(r.Name, "has the backend %s, which is none of the Services here", ref.Name)
				}
				if ref.Namespace != nil {
					report(r.Name, "has its backend in another namespace, which needs a ReferenceGrant")
				}
			}
		}
	}
}

func routeTimeouts(c *cluster, _ []document, report report) {
	for _, r := range c.routes {
		for _, rule := range r.Spec.Rules {
			if rule.Timeouts != nil {
				report(r.Name, "has timeouts, which go before the Service's and are the same for connecting and reading")
			}
		}
	}
}
