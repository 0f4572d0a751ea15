package kong

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// schemas returns the folder with the schemas that Kong publishes, as they are:
// kong_json_schema.json of the library behind decK, and plugins/ of the documentation of
// Kong 3.9. They are Kong's, and no part of this project.
func schemas(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("KONG_SCHEMAS")
	if folder == "" {
		t.Skip("KONG_SCHEMAS does not name a folder with Kong's published schemas, kong_json_schema.json and plugins/")
	}
	return folder
}

// TestPublishedSchemas holds kong.yaml to the schema of decK, and each plugin of both
// forms to its own.
func TestPublishedSchemas(t *testing.T) {
	t.Parallel()
	folder := schemas(t)
	file := compile(t, filepath.Join(folder, "kong_json_schema.json"))
	plugins := make(map[string]*jsonschema.Schema)
	for _, name := range []string{"CorrelationId", "RateLimiting", "RequestSizeLimiting", "RequestTransformer", "RequestTermination", "Prometheus"} {
		plugins[dashed(name)] = compile(t, filepath.Join(folder, "plugins", name+".json"))
	}

	t.Run("kong.yaml is as decK wants it", func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		var value any
		is.NoErr(yaml.Unmarshal([]byte(declarativeText(t)), &value))
		is.NoErr(file.Validate(plain(t, value)))
	})
	for form, c := range both(t) {
		t.Run("the plugins of "+form+" are as Kong 3.9 wants them", func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			for _, p := range c.everyPlugin() {
				published, ok := plugins[p.Name]
				is.True(ok) // a plugin whose schema is not looked at
				if err := published.Validate(plain(t, map[string]any{"config": p.Config})); err != nil {
					t.Errorf("%s: %v", p.Name, err)
				}
			}
		})
	}
	for _, row := range []struct {
		mistake, plugin string
		config          map[string]any
	}{
		{"a period that is text", "rate-limiting", map[string]any{"minute": "many"}},
		{"a period that is not there", "rate-limiting", map[string]any{"minutes": 3000}},
		{"a count by what is not there", "rate-limiting", map[string]any{"limit_by": "address"}},
		{"a unit that is not there", "request-size-limiting", map[string]any{"size_unit": "mebibytes"}},
		{"a generator that is not there", "correlation-id", map[string]any{"generator": "ulid"}},
		{"a header for all headers", "request-transformer", map[string]any{"remove": map[string]any{"header": []any{"K-*"}}}},
		{"a status that is none", "request-termination", map[string]any{"status_code": 4040}},
		{"metrics by a wrong name", "prometheus", map[string]any{"status_metrics": true}},
	} {
		t.Run(row.mistake, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			is.True(plugins[row.plugin].Validate(plain(t, map[string]any{"config": row.config})) != nil) // the schema takes it
		})
	}
}

// everyPlugin returns all plugins, wherever they are.
func (c *config) everyPlugin() []plugin {
	var plugins []plugin
	for _, w := range c.ways() {
		plugins = slices.AppendSeq(plugins, maps.Values(w.plugins))
	}
	for _, r := range c.Routes {
		plugins = append(plugins, r.Plugins...)
	}
	return plugins
}

// compile reads a schema and makes it strict.
func compile(t *testing.T, path string) *jsonschema.Schema {
	t.Helper()
	is := is.New(t)
	text, err := os.ReadFile(path)
	is.NoErr(err)
	var value any
	is.NoErr(json.Unmarshal(text, &value))
	compiler := jsonschema.NewCompiler()
	is.NoErr(compiler.AddResource(path, tighten(value)))
	compiled, err := compiler.Compile(path)
	is.NoErr(err)
	return compiled
}

// tighten makes an object with named keys refuse all others, and takes out what makes the
// published schemas no valid ones of their own draft.
func tighten(value any) any {
	switch value := value.(type) {
	case map[string]any:
		delete(value, "$schema")
		if required, ok := value["required"].([]any); ok && len(required) == 0 {
			delete(value, "required")
		}
		_, named := value["properties"].(map[string]any)
		_, said := value["additionalProperties"]
		if named && !said && value["type"] == "object" {
			value["additionalProperties"] = false
		}
		for key := range value {
			value[key] = tighten(value[key])
		}
		return value
	case []any:
		for i := range value {
			value[i] = tighten(value[i])
		}
	}
	return value
}

// plain returns a value as JSON has it.
func plain(t *testing.T, value any) any {
	t.Helper()
	is := is.New(t)
	text, err := json.Marshal(value)
	is.NoErr(err)
	same, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	is.NoErr(err)
	return same
}

// dashed returns the name of a plugin whose schema is in the file RateLimiting.json.
func dashed(name string) string {
	var dashed strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			dashed.WriteByte('-')
		}
		dashed.WriteString(strings.ToLower(fmt.Sprintf("%c", r)))
	}
	return dashed.String()
}
