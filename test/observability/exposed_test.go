package observability

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"coffeebuddy"
	"coffeebuddy/handler/connections"

	"github.com/matryer/is"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// TestSeriesAreExposed holds each name, label and value in the rules to what the function shows from its start on.
func TestSeriesAreExposed(t *testing.T) {
	recording, alerting := loadRules(t)
	series := exposed(t)
	added := targetLabels(t)
	known := make(map[string]bool) // labels that series have
	for _, s := range series {
		for name := range s {
			known[string(name)] = true
		}
	}
	for _, label := range added {
		known[label] = true
	}
	recorded := make(map[string][]*labels.Matcher) // what is exposed, by the name it is recorded under
	for _, rule := range recording {
		recorded[rule.Record] = firstName(t, rule.Expr)
	}
	for _, rule := range slices.Concat(recording, alerting) {
		t.Run(rule.Record+rule.Alert, func(t *testing.T) {
			expr, err := parser.NewParser(parser.Options{}).ParseExpr(rule.Expr)
			is.New(t).NoErr(err)
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				var names []string
				switch node := node.(type) {
				case *parser.VectorSelector:
					matchers := node.LabelMatchers
					if of := recorded[node.Name]; of != nil {
						matchers = append(slices.DeleteFunc(slices.Clone(matchers), isName), of...)
					}
					for _, wanted := range alternatives(matchers, added) {
						if !slices.ContainsFunc(series, func(s model.Metric) bool { return matches(s, wanted) }) {
							t.Errorf("no series that the function exposes matches %v", wanted)
						}
					}
				case *parser.AggregateExpr:
					names = node.Grouping
				case *parser.BinaryExpr:
					if node.VectorMatching != nil {
						names = slices.Concat(node.VectorMatching.MatchingLabels, node.VectorMatching.Include)
					}
				}
				for _, name := range names {
					if !known[name] {
						t.Errorf("there is no label %s", name)
					}
				}
				return nil
			})
			for _, text := range rule.Annotations {
				for _, used := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
					if !known[used[1]] {
						t.Errorf("there is no label %s", used[1])
					}
				}
			}
		})
	}
}

// firstName returns the matcher of the first series' name in an expression.
func firstName(t *testing.T, text string) (name []*labels.Matcher) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	is.New(t).NoErr(err)
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok && name == nil {
			name = slices.DeleteFunc(slices.Clone(selector.LabelMatchers), func(m *labels.Matcher) bool { return !isName(m) })
		}
		return nil
	})
	return name
}

func isName(m *labels.Matcher) bool { return m.Name == model.MetricNameLabel }

// exposed returns every series of a function that has just started, and up, which is Prometheus' own.
func exposed(t *testing.T) []model.Metric {
	t.Helper()
	is := is.New(t)
	t.Setenv("COFFEEBUDDY_SLACK_SECRET", "secret/coffeebuddy/slack#signing_secret")
	t.Setenv("K_SINK", "http://127.0.0.1:1")
	t.Setenv("COFFEEBUDDY_LEDGER", "postgres://127.0.0.1:1/coffeebuddy")
	t.Setenv("COFFEEBUDDY_LEDGER_SECRET", "secret/coffeebuddy/database")
	settings, err := coffeebuddy.Load()
	is.NoErr(err)
	function, err := coffeebuddy.NewFunction(settings, io.Discard)
	is.NoErr(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	t.Cleanup(func() { _ = listener.Close() })
	is.NoErr(function.Metrics().Register(connections.Listen(listener, connections.Config{}))) // as package main does
	answer := httptest.NewRecorder()
	function.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	is.Equal(answer.Code, http.StatusOK)
	decoder := expfmt.SampleDecoder{Dec: expfmt.NewDecoder(answer.Body, expfmt.NewFormat(expfmt.TypeTextPlain)), Opts: &expfmt.DecodeOptions{}}
	all := []model.Metric{{model.MetricNameLabel: "up"}}
	for {
		var samples model.Vector
		if err := decoder.Decode(&samples); err != nil {
			is.Equal(err, io.EOF)
			break
		}
		for _, sample := range samples {
			all = append(all, sample.Metric)
		}
	}
	is.True(len(all) > 100)
	return all
}

// targetLabels returns the labels that Prometheus adds to what it scrapes: its own and those of prometheus.yml.
func targetLabels(t *testing.T) []string {
	t.Helper()
	config := load[struct {
		Jobs []struct {
			Relabel []struct {
				Target string `yaml:"target_label"`
			} `yaml:"relabel_configs"`
		} `yaml:"scrape_configs"`
	}](t, "prometheus.yml")
	names := map[string]bool{"job": true, "instance": true}
	for _, rule := range config.Jobs[0].Relabel {
		if rule.Target != "" && !strings.HasPrefix(rule.Target, "__") {
			names[rule.Target] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// alternatives returns matchers as they stand and, where one is a list of values, with each value alone. Labels that a target adds are left out.
func alternatives(matchers []*labels.Matcher, added []string) [][]*labels.Matcher {
	all := [][]*labels.Matcher{nil}
	for _, m := range matchers {
		if slices.Contains(added, m.Name) {
			continue
		}
		values := []*labels.Matcher{m}
		if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
			values = nil
			for value := range strings.SplitSeq(m.Value, "|") {
				values = append(values, labels.MustNewMatcher(labels.MatchEqual, m.Name, value)) // what is left out must be there, too
			}
		}
		var next [][]*labels.Matcher
		for _, before := range all {
			for _, value := range values {
				next = append(next, append(slices.Clone(before), value))
			}
		}
		all = next
	}
	return all
}

func matches(series model.Metric, matchers []*labels.Matcher) bool {
	return !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool {
		value, found := series[model.LabelName(m.Name)]
		return !found || !m.Matches(string(value))
	})
}
