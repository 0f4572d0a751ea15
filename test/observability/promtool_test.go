package observability

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
)

func testFiles() []string { return []string{"rules_test.yml", "rules_long_test.yml"} }

func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool := needPromtool(t)
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "rules.yml"},
		append([]string{"test", "rules"}, testFiles()...),
	} {
		t.Run(strings.Join(args[:2], " "), func(t *testing.T) {
			t.Parallel()
			run(t, promtool, dir, args...)
		})
	}
	t.Run("check config", func(t *testing.T) {
		t.Parallel()
		is := is.New(t)
		config := filepath.Join(t.TempDir(), "prometheus.yml")
		is.NoErr(os.WriteFile(config, []byte(configuration(t, "targets.json")), 0o600))
		run(t, promtool, dir, "check", "config", config)
	})
}

func needPromtool(t *testing.T) string {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: it comes with prometheus)")
	}
	return promtool
}

func run(t *testing.T, program, dir string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, args...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

// TestAlertsAreTested holds each alert to a test in which it fires and one in which it does not.
func TestAlertsAreTested(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	fires, silent := make(map[string]bool), make(map[string]bool)
	asked := regexp.MustCompile(`^ALERTS\{alertname="(\w+)", alertstate="firing"\}$`)
	for _, file := range testFiles() {
		tests := load[struct {
			Tests []struct {
				Name string
				Expr []struct {
					Expr    string
					Samples []any `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			}
		}](t, file)
		for _, test := range tests.Tests {
			is.True(test.Name != "" && len(test.Expr) > 0)
			for _, expect := range test.Expr {
				name := asked.FindStringSubmatch(expect.Expr)
				switch {
				case name == nil:
				case len(expect.Samples) > 0:
					fires[name[1]] = true
				default:
					silent[name[1]] = true
				}
			}
		}
	}
	_, alerting := loadRules(t)
	for _, alert := range alerting {
		if !fires[alert.Alert] || !silent[alert.Alert] {
			t.Errorf("%s: a test in which it fires: %t; one in which it does not: %t", alert.Alert, fires[alert.Alert], silent[alert.Alert])
		}
	}
}

// TestPodsAreLabelled holds everything that makes pods of the function to the label that the rules know their targets by.
func TestPodsAreLabelled(t *testing.T) {
	t.Parallel()
	const label, name = "app.kubernetes.io/name", "coffeebuddy"
	for _, file := range []string{"knative/400-service.yaml", "knative/scale-to-zero/400-service.yaml", "kubernetes/400-deployment.yaml"} {
		is.New(t).Equal(load[struct {
			Spec struct {
				Template struct {
					Metadata struct{ Labels map[string]string }
				}
			}
		}](t, "../"+file).Spec.Template.Metadata.Labels[label], name)
	}
	function := load[struct {
		Deploy struct{ Labels []struct{ Key, Value string } }
	}](t, "../func.yaml")
	is := is.New(t)
	is.True(slices.Contains(function.Deploy.Labels, struct{ Key, Value string }{label, name}))
	monitor := load[struct {
		Spec struct {
			Labels []string `yaml:"podTargetLabels"`
		}
	}](t, "../knative/pod-monitor/pod-monitor.yaml")
	is.Equal(monitor.Spec.Labels, []string{label})
}

// configuration is observability/prometheus.yml with its own rules and relabelling, for targets that a file names instead of a
// cluster: Debian's Prometheus is built without Kubernetes. The job for Services is left out.
func configuration(t *testing.T, targets string) string {
	t.Helper()
	is := is.New(t)
	text, err := os.ReadFile(filepath.Join(dir, "prometheus.yml"))
	is.NoErr(err)
	rules, err := filepath.Abs(filepath.Join(dir, "rules.yml"))
	is.NoErr(err)
	config, services, found := strings.Cut(string(text), "\n  # A job for annotated Services")
	is.True(found && strings.Contains(services, "job_name: services"))
	for before, after := range map[string]string{
		"  - rules.yml\n": "  - " + rules + "\n",
		"    kubernetes_sd_configs:\n      - role: pod\n": fmt.Sprintf("    file_sd_configs:\n      - files: [%q]\n        refresh_interval: 1s\n", targets),
	} {
		is.Equal(strings.Count(config, before), 1)
		config = strings.Replace(config, before, after, 1)
	}
	return "global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}\n" + config
}
