package observability

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
	"gopkg.in/yaml.v3"
)

// dir is where the rules are.
const dir = "../../observability"

// A rules file, as far as the tests here look at it; promtool looks at the rest.
type rules struct {
	Groups []struct {
		Rules []rule
	}
}

type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

// loadRules returns the rules that record, and those that alert.
func loadRules(t *testing.T) (recording, alerting []rule) {
	t.Helper()
	for _, group := range load[rules](t, "rules.yml").Groups {
		for _, rule := range group.Rules {
			if rule.Alert == "" {
				recording = append(recording, rule)
			} else {
				alerting = append(alerting, rule)
			}
		}
	}
	is.New(t).True(len(alerting) > 20 && len(recording) > 5)
	return recording, alerting
}

func load[T any](t *testing.T, name string) (into T) {
	t.Helper()
	is := is.New(t)
	text, err := os.ReadFile(filepath.Join(dir, name))
	is.NoErr(err)
	is.NoErr(yaml.Unmarshal(text, &into))
	return into
}

func TestAlertsSayWhatAndWhere(t *testing.T) {
	t.Parallel()
	_, alerting := loadRules(t)
	seen := make(map[string]bool)
	for _, alert := range alerting {
		t.Run(alert.Alert, func(t *testing.T) {
			is := is.New(t)
			is.True(strings.HasPrefix(alert.Alert, "CoffeeBuddy"))
			is.True(!seen[alert.Alert]) // one rule each
			seen[alert.Alert] = true
			severity := alert.Labels["severity"]
			is.True(severity == "critical" || severity == "warning")
			is.True(strings.HasPrefix(alert.Annotations["summary"], "{{ $labels.namespace }}")) // where
			is.True(strings.HasPrefix(alert.Annotations["runbook"], "docs/runbooks/"))
		})
	}
}

// TestOperator holds the object for the Prometheus operator to the rules: it is them, two levels in.
//
//	COFFEEBUDDY_WRITE=1 go test -run Operator .   # writes it
func TestOperator(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	text, err := os.ReadFile(filepath.Join(dir, "rules.yml"))
	is.NoErr(err)
	_, groups, found := strings.Cut(string(text), "\ngroups:\n")
	is.True(found)
	var object strings.Builder
	object.WriteString(`# rules.yml for the Prometheus operator: ` + "`kubectl apply -f observability/prometheus-rule.yaml`" + `. Made of it; change that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: coffeebuddy
  namespace: coffeebuddy
  labels:
    app.kubernetes.io/name: coffeebuddy
spec:
  groups:
`)
	for line := range strings.Lines(groups) {
		if line != "\n" {
			line = "  " + line
		}
		object.WriteString(line)
	}
	file := filepath.Join(dir, "prometheus-rule.yaml")
	if os.Getenv("COFFEEBUDDY_WRITE") != "" {
		is.NoErr(os.WriteFile(file, []byte(object.String()), 0o600))
		is.NoErr(os.Chmod(file, 0o644))
	}
	have, err := os.ReadFile(file)
	is.NoErr(err)
	is.True(string(have) == object.String()) // or write it anew

	want := load[rules](t, "rules.yml")
	got := load[struct{ Spec rules }](t, "prometheus-rule.yaml").Spec
	is.Equal(got, want)
}
