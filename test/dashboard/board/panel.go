package board

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// A kind is how a panel shows what its queries find.
type kind int

const (
	lines     kind = iota // over time
	stacked               // over time, one upon the other
	bars                  // over time, of what is counted in each $__interval, a minute at least
	number                // now, and large
	states                // over time, as coloured bands
	labelling             // now, as a table of labels
)

// A panel is one of the dashboard's.
type panel struct {
	kind        kind
	title       string
	description string // Markdown; ${repository} is where the links lead
	width       uint32 // of 24
	unit        string // one of Grafana's
	empty       string // shown where there is nothing, which is no error
	queries     []query

	limit  *float64          // what values should stay under; nil: none
	states map[string]result // for what value of states and number which word and colour
}

// A query is one of a panel. In its expression {$pods} stands for the pods that the reader chose.
type query struct{ expr, legend string }

// A result is how a value is shown.
type result struct{ text, color string }

const (
	green = "green"
	red   = "red"

	height     = 8
	flatHeight = 4 // of numbers
)

// quantiles returns the queries of the 50th and the 99th percentile of a histogram, by a label or, for "", of all of it.
func quantiles(histogram, selector, by string) []query {
	legend := ""
	if by != "" {
		by, legend = ", "+by, "{{"+by+"}}"
	}
	var both []query
	for _, q := range []struct{ value, name string }{{"0.5", "p50"}, {"0.99", "p99"}} {
		both = append(both, query{
			expr:   "histogram_quantile(" + q.value + ", sum by (le" + by + ") (rate(" + histogram + "_bucket{" + selector + "}[$__rate_interval])))",
			legend: strings.TrimPrefix(legend+" "+q.name, " "),
		})
	}
	return both
}

func (p panel) builder(id uint32) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case number:
		return built(p, id, stat.NewPanelBuilder().Height(flatHeight).
			ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
			GraphMode(common.BigValueGraphModeNone).Orientation(common.VizOrientationAuto).
			TextMode(common.BigValueTextModeValueAndName).
			Thresholds(p.thresholds()).
			Mappings(p.mappings()))
	case states:
		return built(p, id, statetimeline.NewPanelBuilder().Height(height).
			MergeValues(true).ShowValue(common.VisibilityModeAuto).RowHeight(0.8).FillOpacity(80).
			Legend(common.NewVizLegendOptionsBuilder().ShowLegend(false)).
			Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeSingle).Sort(common.SortOrderNone)).
			Thresholds(p.thresholds()).
			ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdThresholds)).
			Mappings(p.mappings()))
	case labelling:
		return built(p, id, table.NewPanelBuilder().Height(height).
			WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
				"excludeByName": map[string]bool{"Time": true, "Value": true},
				"indexByName":   map[string]int{"pod": 0, "version": 1, "commit": 2, "goversion": 3},
			}}))
	}
	b := timeseries.NewPanelBuilder().Height(height).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).
			DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending)).
		Thresholds(p.thresholds()).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdPaletteClassicByName)).
		ShowPoints(common.VisibilityModeAuto).
		LineWidth(1).FillOpacity(5).
		Min(0)
	if p.limit != nil {
		b.AxisSoftMax(*p.limit).ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	switch p.kind {
	case stacked:
		b.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal)).FillOpacity(30)
	case bars:
		b.Interval("1m").DrawStyle(common.GraphDrawStyleBars).FillOpacity(60).
			Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
	}
	return built(p, id, b)
}

// A builder is any of the library's for a panel: what all panels have.
type builder[B any] interface {
	cog.Builder[dashboard.Panel]

	Id(id uint32) B
	Title(title string) B
	Description(description string) B
	Datasource(datasource common.DataSourceRef) B
	Span(w uint32) B
	Unit(unit string) B
	NoValue(text string) B
	WithTarget(target cog.Builder[variants.Dataquery]) B
}

// built adds what all panels have.
func built[B builder[B]](p panel, id uint32, b B) cog.Builder[dashboard.Panel] {
	b.Id(id).Title(p.title).Description(p.description).Datasource(datasource()).Span(p.width).Unit(p.unit).NoValue(p.empty)
	for i, q := range p.queries {
		target := prometheus.NewDataqueryBuilder().
			Datasource(datasource()).
			RefId(string(rune('A' + i))).
			Expr(strings.ReplaceAll(q.expr, "$pods", `namespace=~"$namespace", revision=~"$revision", pod=~"$pod"`)).
			LegendFormat(q.legend)
		switch p.kind {
		case number:
			target.Instant()
		case labelling:
			target.Instant().Format(prometheus.PromQueryFormatTable)
		default:
			target.Range()
		}
		b.WithTarget(target)
	}
	return b
}

// thresholds are green, and red from the limit on.
func (p panel) thresholds() cog.Builder[dashboard.ThresholdsConfig] {
	steps := []dashboard.Threshold{{Color: green}}
	if p.limit != nil {
		steps = append(steps, dashboard.Threshold{Value: p.limit, Color: red})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
}

func (p panel) mappings() []dashboard.ValueMapping {
	if p.states == nil {
		return nil
	}
	options := make(map[string]dashboard.ValueMappingResult)
	for value, shown := range p.states {
		options[value] = dashboard.ValueMappingResult{Text: &shown.text, Color: &shown.color}
	}
	return []dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}}
}
