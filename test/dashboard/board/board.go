// Package board is the Grafana dashboard of the function, as a value: the rows in the order in which an operator reads
// them, each panel with its queries, its unit and what to think of it. It asks for metrics that the function exposes and
// for no recorded rule.
package board

import (
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// A row is a heading with the panels under it, from left to right and from top to bottom.
type row struct {
	title  string
	panels []panel
}

// New returns the dashboard.
func New() (dashboard.Dashboard, error) {
	b := dashboard.NewDashboardBuilder("CoffeeBuddy").
		Uid("coffeebuddy").
		Description("The function's readiness, traffic, events, ledger, Slack requests, starts and runtime.").
		Tags([]string{"coffeebuddy"}).
		Time("now-1h", "now").
		Refresh("30s").
		Timezone(common.TimeZoneBrowser).
		Tooltip(dashboard.DashboardCursorSyncCrosshair)
	for _, v := range variables() {
		b.WithVariable(v)
	}
	b.Link(dashboard.NewDashboardLinkBuilder("Operations").Type(dashboard.DashboardLinkTypeLink).Icon("doc").
		Tooltip("What each reason means, and what to do").Url("${repository}/docs/operations.md").TargetBlank(true))
	id := uint32(0)
	next := func() uint32 { id++; return id }
	for _, r := range []row{ready(), traffic(), events(), ledger(), slack(), starts(), runtime()} {
		b.WithRow(dashboard.NewRowBuilder(r.title).Id(next()))
		for _, p := range r.panels {
			b.WithPanel(p.builder(next()))
		}
	}
	built, err := b.Build()
	if err != nil {
		return built, fmt.Errorf("build the dashboard: %w", err)
	}
	for i := range built.Links {
		built.Links[i].Placement = nil // where it is seen, and not in a menu
	}
	return built, nil
}

// variables are what the reader chooses. A label that a scrape configuration does not set has no values to choose from:
// All, which is `.*`, then matches the series without it.
func variables() []cog.Builder[dashboard.VariableModel] {
	return []cog.Builder[dashboard.VariableModel]{
		dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus").
			Current(option("default", "default")),
		label("namespace", ""),
		label("revision", `namespace=~"$namespace"`),
		label("pod", `namespace=~"$namespace", revision=~"$revision"`),
		dashboard.NewConstantVariableBuilder("repository").Label("Address of this repository's files, for links").
			Value(dashboard.StringOrMap{String: new("https://git.example.com/coffeebuddy/blob/main")}),
	}
}

// label returns a variable with the values of a label, several at a time, looked up anew for each range of time: with scale
// to zero the pods of this morning are gone.
func label(name, among string) cog.Builder[dashboard.VariableModel] {
	query := "label_values(coffeebuddy_ready{" + among + "}, " + name + ")"
	return dashboard.NewQueryVariableBuilder(name).Label(strings.ToUpper(name[:1]) + name[1:]).
		Datasource(datasource()).
		Definition(query).
		Query(dashboard.StringOrMap{Map: map[string]any{"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"}}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc).
		Multi(true).IncludeAll(true).AllValue(".*").
		Current(option("All", "$__all"))
}

func option(text, value string) dashboard.VariableOption {
	return dashboard.VariableOption{
		Selected: new(true),
		Text:     dashboard.StringOrArrayOfString{String: &text},
		Value:    dashboard.StringOrArrayOfString{String: &value},
	}
}

// datasource is the one that the reader chose.
func datasource() common.DataSourceRef {
	return common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
}
