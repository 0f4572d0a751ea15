package kong

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	kyaml "sigs.k8s.io/yaml"
)

// A definition validates the objects of one kind as the API server does: with its own
// code and the definition that is published.
type definition struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// definitions returns those of the two kinds that are not Kubernetes' own, out of the
// modules whose types we decode with.
func definitions(t *testing.T) map[string]definition {
	t.Helper()
	return map[string]definition{
		"HTTPRoute":  define(t, "sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
		"KongPlugin": define(t, "github.com/kong/kubernetes-configuration", "config/crd/ingress-controller/configuration.konghq.com_kongplugins.yaml"),
	}
}

func define(t *testing.T, module, path string) definition {
	t.Helper()
	is := is.New(t)
	folder, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	is.NoErr(err)
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(folder)), path))
	is.NoErr(err)
	var crd apiextensionsv1.CustomResourceDefinition
	is.NoErr(kyaml.Unmarshal(text, &crd))
	for _, version := range crd.Spec.Versions {
		if version.Name != "v1" {
			continue
		}
		var internal apiextensions.JSONSchemaProps
		is.NoErr(apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(version.Schema.OpenAPIV3Schema, &internal, nil))
		structural, err := schema.NewStructural(&internal)
		is.NoErr(err)
		validator, _, err := validation.NewSchemaValidator(&internal)
		is.NoErr(err)
		return definition{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
	}
	t.Fatalf("%s has no version v1", path)
	return definition{}
}

// refuses returns what the API server would say to an object, or nothing.
func (d definition) refuses(ctx context.Context, object map[string]any) []string {
	var reasons []string
	unknown := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(object, d.structural, true, unknown) {
		reasons = append(reasons, "unknown field "+path)
	}
	defaulting.Default(object, d.structural)
	errs := validation.ValidateCustomResource(nil, object, d.validator)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.structural, object)...)
	broken, _ := d.rules.Validate(ctx, nil, d.structural, object, nil, celconfig.RuntimeCELCostBudget)
	for _, err := range append(errs, broken...) {
		reasons = append(reasons, err.Error())
	}
	return reasons
}

// apply returns what the API server would say to all objects of a text.
func apply(t *testing.T, definitions map[string]definition, text string) []string {
	t.Helper()
	is := is.New(t)
	documents, err := documents(text)
	is.NoErr(err)
	var reasons []string
	for _, d := range documents {
		definition, ok := definitions[d.Kind]
		if !ok {
			continue
		}
		text, err := kyaml.YAMLToJSON(d.text)
		is.NoErr(err)
		var object map[string]any
		is.NoErr(json.Unmarshal(text, &object)) // with whole numbers, as the API server reads them
		for _, reason := range definition.refuses(t.Context(), object) {
			reasons = append(reasons, d.Kind+" "+d.Name+": "+reason)
		}
	}
	return reasons
}

// TestAPIServerTakesObjects holds the objects to the published definitions, and these
// to what they must refuse.
func TestAPIServerTakesObjects(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	definitions := definitions(t)
	text := kubernetesText(t)
	for _, reason := range apply(t, definitions, text) {
		t.Error(reason)
	}
	for _, row := range []struct{ mistake, old, with, says string }{
		{"a 17th header to remove", "              - Client-Cert\n", "              - Client-Cert\n              - X-Real-Ip\n", "must have at most 16 items"},
		{"a path without its slash", `{type: RegularExpression, value: '/slack/events\z'}`, "{type: Exact, value: slack/events}", "must be an absolute path"},
		{"a backend without its port", "          port: 80\n", "", "Must have port for Service reference"},
		{"the same filter twice", "        - type: RequestHeaderModifier", "        - type: URLRewrite\n          urlRewrite: {hostname: a.example.com}\n        - type: RequestHeaderModifier", "cannot be repeated"},
		{"a method in small letters", "method: POST", "method: post", "Unsupported value"},
		{"a Host with a port", "hostname: coffeebuddy.coffeebuddy.svc.cluster.local", "hostname: coffeebuddy.coffeebuddy.svc.cluster.local:80", "should match"},
		{"a field that is not there", "  hostnames:", "  hostNames: [a.example.com]\n  hostnames:", "unknown field spec.hostNames"},
		{"a plugin without its name", "plugin: correlation-id\n", "", "plugin"},
		{"a configuration in two places", "config:\n  header_name", "configFrom: {secretKeyRef: {name: a, key: b}}\nconfig:\n  header_name", "not allowed"},
	} {
		is.True(strings.Contains(text, row.old)) // nothing to put it in the place of
		reasons := strings.Join(apply(t, definitions, strings.Replace(text, row.old, row.with, 1)), "\n")
		if !strings.Contains(reasons, row.says) {
			t.Errorf("%s: the API server says %q", row.mistake, reasons)
		}
	}
}
