package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"coffeebuddy/handler"

	"github.com/matryer/is"
	"gopkg.in/yaml.v3"
)

// TestFuncYAML holds func.yaml to what func needs and to what the function serves.
func TestFuncYAML(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	text, err := os.ReadFile("../../func.yaml")
	is.NoErr(err)
	var f struct {
		SpecVersion string    `yaml:"specVersion"`
		Created     time.Time `yaml:"created"`
		Name        string    `yaml:"name"`
		Runtime     string    `yaml:"runtime"`
		Invoke      string    `yaml:"invoke"`
		Run         struct {
			Envs []struct{ Name, Value string } `yaml:"envs"`
		} `yaml:"run"`
		Deploy struct {
			Annotations     map[string]string `yaml:"annotations"`
			HealthEndpoints struct {
				Liveness, Readiness string
			} `yaml:"healthEndpoints"`
		} `yaml:"deploy"`
	}
	is.NoErr(yaml.Unmarshal(text, &f))
	is.Equal(f.SpecVersion, "0.36.0")
	is.True(!f.Created.IsZero()) // else func finds no function here
	is.Equal(f.Name+" "+f.Runtime, "coffeebuddy go")
	is.Equal(f.Invoke, "http") // "cloudevent" would be another scaffold
	is.Equal(f.Deploy.HealthEndpoints.Liveness, handler.LivePath)
	is.Equal(f.Deploy.HealthEndpoints.Readiness, handler.ReadyPath)
	is.Equal(f.Deploy.Annotations["prometheus.io/path"], "/metrics")
	for _, env := range f.Run.Envs {
		if strings.Contains(env.Name, "TOKEN") || strings.Contains(env.Name, "SECRET") {
			is.True(strings.HasPrefix(env.Value, "{{ secret:")) // func bakes what stands here into the image
		}
	}
}
