package coffeebuddy_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// TestImports holds who may import whom: function → coffeebuddy → {handler, checks,
// slack}, checks → {vault, ory}, handler → events, ledger → events and slack → events, which knows nobody
// and no HTTP.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		of     string
		banned []string // as a path, or a path and all below it
	}{
		{"coffeebuddy/events", []string{
			"coffeebuddy", "coffeebuddy/ledger", "coffeebuddy/checks", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
			"github.com/hashicorp", "github.com/ory", "github.com/kelseyhightower",
		}},
		{"coffeebuddy/events/binding", []string{
			"coffeebuddy", "coffeebuddy/checks", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
		}},
		{"coffeebuddy/events/sink", []string{
			"coffeebuddy", "coffeebuddy/checks", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
			"github.com/hashicorp", "github.com/ory", "github.com/kelseyhightower",
			"github.com/cloudevents/sdk-go/v2/client", "github.com/cloudevents/sdk-go/v2/protocol",
		}},
		{"coffeebuddy/ledger", []string{
			"coffeebuddy", "coffeebuddy/checks", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
			"github.com/hashicorp", "github.com/ory", "github.com/kelseyhightower", "github.com/prometheus/client_golang/prometheus/promhttp",
		}},
		{"coffeebuddy/handler", []string{
			"coffeebuddy", "coffeebuddy/ledger", "coffeebuddy/checks", "coffeebuddy/function", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
			"github.com/hashicorp", "github.com/ory", "github.com/kelseyhightower",
			"github.com/cloudevents/sdk-go/v2/client", "github.com/cloudevents/sdk-go/v2/protocol",
		}},
		{"coffeebuddy/logging", []string{
			"coffeebuddy", "coffeebuddy/checks", "coffeebuddy/events", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
		}},
		{"coffeebuddy/internal/bounded", []string{
			"coffeebuddy", "coffeebuddy/checks", "coffeebuddy/events", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
			"github.com",
		}},
		{"coffeebuddy/internal/single", []string{
			"coffeebuddy", "coffeebuddy/checks", "coffeebuddy/events", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
			"github.com",
		}},
		{"coffeebuddy/internal/transport", []string{
			"coffeebuddy", "coffeebuddy/checks", "coffeebuddy/events", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack", "coffeebuddy/vault",
			"github.com",
		}},
		{"coffeebuddy/vault", []string{
			"coffeebuddy", "coffeebuddy/ledger", "coffeebuddy/checks", "coffeebuddy/events", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/slack",
			"github.com/cloudevents", "github.com/ory", "github.com/kelseyhightower", "github.com/prometheus/client_golang/prometheus/promhttp",
		}},
		{"coffeebuddy/ory", []string{
			"coffeebuddy", "coffeebuddy/ledger", "coffeebuddy/checks", "coffeebuddy/events", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/slack", "coffeebuddy/vault",
			"github.com/cloudevents", "github.com/hashicorp", "github.com/kelseyhightower", "github.com/prometheus/client_golang/prometheus/promhttp",
		}},
		{"coffeebuddy/checks", []string{
			"coffeebuddy", "coffeebuddy/ledger", "coffeebuddy/events", "coffeebuddy/handler", "coffeebuddy/function", "coffeebuddy/slack",
			"github.com/cloudevents", "github.com/kelseyhightower", "github.com/prometheus/client_golang/prometheus/promhttp",
		}},
		{"coffeebuddy/slack", []string{
			"coffeebuddy", "coffeebuddy/ledger", "coffeebuddy/checks", "coffeebuddy/function", "coffeebuddy/handler", "coffeebuddy/ory", "coffeebuddy/vault",
			"github.com/hashicorp", "github.com/ory", "github.com/kelseyhightower",
		}},
		{"coffeebuddy", []string{"coffeebuddy/function", "coffeebuddy/test", "knative.dev", "github.com/matryer"}},
		{"coffeebuddy/function", []string{
			"coffeebuddy/test", "coffeebuddy/handler/handlertest", "coffeebuddy/slack/slacktest", "testing", "knative.dev", "github.com/matryer", "net/http/pprof",
			"github.com/cloudevents/sdk-go/v2/client", "github.com/cloudevents/sdk-go/v2/protocol",
		}},
	} {
		t.Run(test.of, func(t *testing.T) {
			t.Parallel()
			is := is.New(t)
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", test.of).Output()
			is.NoErr(err)
			deps := strings.Fields(string(out))
			is.True(slices.Contains(deps, test.of))
			for _, dep := range deps {
				for _, banned := range test.banned {
					if dep != test.of && (dep == banned || banned != "coffeebuddy" && strings.HasPrefix(dep, banned+"/")) {
						t.Errorf("%s imports %s", test.of, dep)
					}
				}
			}
		})
	}
}

// TestEventsKnowNoHTTP, but for what sends to the sink. It goes by direct imports: the Prometheus client has net/http below it.
func TestEventsKnowNoHTTP(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for _, of := range []string{"coffeebuddy/events", "coffeebuddy/events/attribute", "coffeebuddy/events/binding"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{range .Imports}}{{.}}\n{{end}}", of).Output()
		is.NoErr(err)
		for imported := range strings.FieldsSeq(string(out)) {
			is.True(imported != "net/http" && !strings.HasPrefix(imported, "net/http/")) // imported
		}
	}
}

// TestEnvironmentIsReadInOnePlace: only settings.go may, of what is not a test. What Go's own runtime has
// read before, GOGC and GOMEMLIMIT, is no setting of the function.
func TestEnvironmentIsReadInOnePlace(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	for _, of := range []string{"coffeebuddy/events", "coffeebuddy/events/attribute", "coffeebuddy/events/binding", "coffeebuddy/events/sink", "coffeebuddy/ledger", "coffeebuddy/handler", "coffeebuddy/checks", "coffeebuddy/vault", "coffeebuddy/ory", "coffeebuddy/internal/bounded", "coffeebuddy/internal/fault", "coffeebuddy/internal/single", "coffeebuddy/internal/transport", "coffeebuddy/slack", "coffeebuddy/function"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{range .GoFiles}}{{$.Dir}}/{{.}}\n{{end}}", of).Output()
		is.NoErr(err)
		args := append([]string{"-nE", `os\.(Getenv|LookupEnv|Environ|ExpandEnv)|envconfig`}, strings.Fields(string(out))...)
		found, _ := exec.CommandContext(t.Context(), "grep", args...).Output()
		for line := range strings.Lines(string(found)) {
			line = strings.NewReplacer(`os.Getenv("GOGC")`, "", `os.Getenv("GOMEMLIMIT")`, "").Replace(line)
			is.True(!strings.Contains(line, "os.") && !strings.Contains(line, "envconfig")) // the line
		}
	}
}

// TestRootModuleStaysSmall: func merges this go.mod into its own and drops every
// replace; tools and test servers have modules of their own.
func TestRootModuleStaysSmall(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json").Output()
	is.NoErr(err)
	var module struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace, Tool []any
	}
	is.NoErr(json.Unmarshal(out, &module))
	is.Equal(len(module.Replace)+len(module.Tool), 0)
	var direct []string
	for _, r := range module.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	slices.Sort(direct)
	is.Equal(direct, []string{
		"github.com/cloudevents/sdk-go/v2",
		"github.com/hashicorp/vault/api",
		"github.com/kelseyhightower/envconfig",
		"github.com/lib/pq",
		"github.com/matryer/is",
		"github.com/ory/client-go",
		"github.com/prometheus/client_golang",
		"github.com/prometheus/client_model", // client_golang's own, as is the next one
		"github.com/prometheus/common",
		"golang.org/x/oauth2",
	})
}
