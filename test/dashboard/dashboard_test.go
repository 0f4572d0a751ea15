package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"coffeebuddy/test/dashboard/draw"
	"coffeebuddy/test/dashboard/published"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/matryer/is"
	"github.com/prometheus/prometheus/promql/parser"
)

// file is the dashboard as published.
const file = "../../observability/dashboard.json"

func TestTheFileIsWhatThisProgramMakes(t *testing.T) {
	is := is.New(t)
	made, err := generate()
	is.NoErr(err)
	there, err := os.ReadFile(file)
	is.NoErr(err)
	if string(made) != string(there) {
		t.Error("observability/dashboard.json is not what test/dashboard makes: run make dashboard")
	}
}

func TestGrafanaKnowsAllOfIt(t *testing.T) {
	is := is.New(t)
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile(file)
	is.NoErr(err)
	var d dashboard.Dashboard
	is.NoErr(d.UnmarshalJSONStrict(text))
	is.NoErr(d.Validate())
}

func TestPanels(t *testing.T) {
	d := read(t)
	ids := make(map[int]string)
	places := make(map[[2]int]string)
	for _, p := range d.Panels {
		if other, taken := ids[p.ID]; taken || p.ID == 0 {
			t.Errorf("panel %q has the id %d of panel %q", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("panel %q is outside of the grid: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, taken := places[[2]int{x, y}]; taken {
					t.Fatalf("panel %q is over panel %q", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		defaults := p.FieldConfig.Defaults
		for what, text := range map[string]string{"title": p.Title, "description": p.Description, "unit": defaults.Unit, "text for no data": defaults.NoValue} {
			if text == "" {
				t.Errorf("panel %d %q has no %s", p.ID, p.Title, what)
			}
		}
		if len(p.Targets) == 0 {
			t.Errorf("panel %q has no query", p.Title)
		}
		for _, target := range p.Targets {
			if target.LegendFormat == "" && p.Type != "table" {
				t.Errorf("panel %q: %s has no legend", p.Title, target.Expr)
			}
		}
	}
}

// TestQueries parses each query with Prometheus' own parser, and holds it to metrics that are no rule's and to the
// variables that there are.
func TestQueries(t *testing.T) {
	d := read(t)
	now := time.Now()
	view := published.View{From: now.Add(-time.Hour), To: now, Step: 15 * time.Second, Scrape: 15 * time.Second}
	parse := parser.NewParser(parser.Options{})
	check := func(of, query string) {
		text := d.Substitute(query, view)
		if strings.Contains(text, "$") && !strings.Contains(text, `"$1"`) {
			t.Errorf("%s: %s has a variable that there is not", of, query)
		}
		expr, err := parse.ParseExpr(text)
		if err != nil {
			t.Errorf("%s: %s: %v", of, query, err)
			return
		}
		for _, selector := range parser.ExtractSelectors(expr) {
			for _, m := range selector {
				if m.Name == "__name__" && strings.Contains(m.Value, ":") {
					t.Errorf("%s: %s is a rule's", of, m.Value)
				}
			}
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			check(fmt.Sprintf("panel %q", p.Title), target.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		series, ok := v.Series()
		if !ok || !v.Multi {
			t.Errorf("variable %s is no label's, or takes one value alone", v.Name)
		}
		check("variable "+v.Name, series)
	}
}

// TestPictures: each row has one, and the document shows it.
func TestPictures(t *testing.T) {
	is := is.New(t)
	text, err := os.ReadFile("../../docs/dashboard.md")
	is.NoErr(err)
	for _, p := range read(t).Panels {
		if p.Type != "row" {
			continue
		}
		name := draw.FileName(p.Title)
		if _, err := os.Stat(filepath.Join("../../docs/dashboard", name)); err != nil || !strings.Contains(string(text), "](dashboard/"+name+")") {
			t.Errorf("row %q is not in docs/dashboard.md with its picture: %v", p.Title, err)
		}
	}
}

// TestLinks follows each link of a description to a heading of a document here.
func TestLinks(t *testing.T) {
	const here = "${repository}/"
	link := regexp.MustCompile(`\]\(([^)]*)\)`)
	d := read(t)
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		links := link.FindAllStringSubmatch(p.Description, -1)
		if len(links) == 0 {
			t.Errorf("panel %q: the description links to no document", p.Title)
		}
		for _, l := range links {
			path, local := strings.CutPrefix(l[1], here)
			if !local || !leads(t, path) {
				t.Errorf("panel %q: %s leads nowhere", p.Title, l[1])
			}
		}
	}
	for _, l := range d.Links {
		if path, local := strings.CutPrefix(l.URL, here); !local || !leads(t, path) {
			t.Errorf("%s leads nowhere", l.URL)
		}
	}
}

// leads reports whether there is a file, with a heading of that name if the path has one.
func leads(t *testing.T, path string) bool {
	t.Helper()
	path, anchor, _ := strings.Cut(path, "#")
	text, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		return false
	}
	unnamed := regexp.MustCompile(`[^a-z0-9 -]`)
	for line := range strings.Lines(string(text)) {
		if heading, ok := strings.CutPrefix(line, "#"); ok {
			name := unnamed.ReplaceAllString(strings.ToLower(strings.Trim(heading, "# \n")), "")
			if strings.ReplaceAll(name, " ", "-") == anchor {
				return true
			}
		}
	}
	return anchor == ""
}

func read(t *testing.T) *published.Dashboard {
	t.Helper()
	d, err := published.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
