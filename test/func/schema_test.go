package main

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/matryer/is"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// func publishes a schema of func.yaml (schema/func_yaml-schema.json in its repository), which forbids fields that it does not know.
func TestFuncYAMLAgainstFuncsSchema(t *testing.T) {
	t.Parallel()
	path := os.Getenv("FUNC_SCHEMA")
	if path == "" {
		t.Skip("FUNC_SCHEMA does not name a file with func's schema")
	}
	is := is.New(t)
	schema, err := jsonschema.NewCompiler().Compile(path)
	is.NoErr(err)
	text, err := os.ReadFile("../../func.yaml")
	is.NoErr(err)
	is.NoErr(schema.Validate(document(t, text)))

	err = schema.Validate(document(t, append(text, "deploi: {}\n"...)))
	is.True(err != nil) // the schema is one that finds mistakes
}

// document returns YAML as JSON has it: the schema says that times are strings.
func document(t *testing.T, text []byte) any {
	t.Helper()
	is := is.New(t)
	is.Helper()
	var fromYAML, fromJSON any
	is.NoErr(yaml.Unmarshal(text, &fromYAML))
	asJSON, err := json.Marshal(fromYAML)
	is.NoErr(err)
	is.NoErr(json.Unmarshal(asJSON, &fromJSON))
	return fromJSON
}
