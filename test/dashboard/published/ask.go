package published

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// A View is what a reader looks at: a range of time, and what was chosen for each variable.
type View struct {
	From, To time.Time
	Step     time.Duration       // between two values
	Scrape   time.Duration       // the scrape interval that Grafana knows of its data source
	Chosen   map[string][]string // the values of a variable that is not at All
}

// Substitute returns a query with its variables replaced, as Grafana does it for Prometheus.
func (d *Dashboard) Substitute(query string, v View) string {
	replace := func(name, value string) {
		query = strings.NewReplacer("${"+name+"}", value, "$"+name, value).Replace(query)
	}
	replace("__rate_interval", seconds(max(v.Step+v.Scrape, 4*v.Scrape)))
	replace("__interval", seconds(v.Step))
	replace("__range", seconds(v.To.Sub(v.From)))
	for _, variable := range d.Templating.List {
		replace(variable.Name, variable.pattern(v.Chosen[variable.Name]))
	}
	return query
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) + "s" }

// pattern returns the regular expression that stands for what was chosen; nothing is All.
func (v Variable) pattern(chosen []string) string {
	if len(chosen) == 0 {
		return v.AllValue
	}
	escaped := make([]string, 0, len(chosen))
	for _, value := range chosen {
		escaped = append(escaped, strings.ReplaceAll(regexp.QuoteMeta(value), `\`, `\\`)) // within a string of PromQL
	}
	if len(escaped) == 1 {
		return escaped[0]
	}
	return "(" + strings.Join(escaped, "|") + ")"
}

// For returns the view of a panel, which may want a longer step.
func (v View) For(p Panel) View {
	if interval, err := time.ParseDuration(p.Interval); err == nil {
		v.Step = max(v.Step, interval)
	}
	return v
}

// Ask asks a query of a panel: over the view up to its very end or, where it is an instant one, at that.
func (d *Dashboard) Ask(ctx context.Context, api prometheus.API, p Panel, target Target, v View) (model.Matrix, error) {
	v = v.For(p)
	query := d.Substitute(target.Expr, v)
	if target.Instant {
		value, _, _, err := api.Query(ctx, query, v.To)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", query, err)
		}
		vector, ok := value.(model.Vector)
		if !ok {
			return nil, fmt.Errorf("ask %s: it is no vector, but a %s", query, value.Type())
		}
		var found model.Matrix
		for _, sample := range vector {
			found = append(found, &model.SampleStream{
				Metric: sample.Metric, Values: []model.SamplePair{{Timestamp: sample.Timestamp, Value: sample.Value}},
			})
		}
		return found, nil
	}
	value, _, _, err := api.QueryRange(ctx, query, prometheus.Range{Start: v.To.Add(-v.To.Sub(v.From).Truncate(v.Step)), End: v.To, Step: v.Step})
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", query, err)
	}
	found, ok := value.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("ask %s: it is no matrix, but a %s", query, value.Type())
	}
	return found, nil
}

// Values asks for the values that a variable has to choose from.
func (d *Dashboard) Values(ctx context.Context, api prometheus.API, variable Variable, v View) ([]string, error) {
	series, label, ok := labelValues(variable.text())
	if !ok {
		return nil, fmt.Errorf("variable %s: %q is no label_values(series, label)", variable.Name, variable.text())
	}
	found, _, _, err := api.LabelValues(ctx, label, []string{d.Substitute(series, v)}, v.From, v.To)
	if err != nil {
		return nil, fmt.Errorf("ask for variable %s: %w", variable.Name, err)
	}
	values := make([]string, 0, len(found))
	for _, value := range found {
		values = append(values, string(value))
	}
	return values, nil
}

// Series returns the expression whose label's values a variable has, and whether it is one of those.
func (v Variable) Series() (expression string, ok bool) {
	series, _, ok := labelValues(v.text())
	return series, ok
}

func labelValues(query string) (series, label string, ok bool) {
	inner, found := strings.CutPrefix(query, "label_values(")
	inner, closed := strings.CutSuffix(inner, ")")
	i := strings.LastIndex(inner, ",")
	if !found || !closed || i < 0 {
		return "", "", false
	}
	return inner[:i], strings.TrimSpace(inner[i+1:]), true
}

// Legend returns what a series is called in a panel.
func (t Target) Legend(series model.Metric) string {
	legend := t.LegendFormat
	for name, value := range series {
		legend = strings.ReplaceAll(legend, "{{"+string(name)+"}}", string(value))
	}
	return legend
}
