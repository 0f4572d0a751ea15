// Package draw draws a dashboard's rows as SVG, from what a Prometheus knows: for documents, so that their readers see what
// they get. It follows the dashboard's grid, not Grafana's looks.
package draw

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"coffeebuddy/test/dashboard/published"

	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Of the grid, in points; a picture is 24 columns wide.
const (
	column = vg.Length(50)
	line   = vg.Length(30)
	gap    = vg.Length(4)
)

// A drawing is a panel with what its queries found.
type drawing struct {
	panel  published.Panel
	view   published.View
	series []series
}

// A series is one line, band or number of a panel.
type series struct {
	name   string
	labels model.Metric
	values []model.SamplePair
}

// Rows asks for what the panels show and writes a file for each row into a folder, by the row's title.
func Rows(ctx context.Context, api prometheus.API, d *published.Dashboard, view published.View, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var title string
	rows := make(map[string][]drawing)
	for _, p := range d.Panels {
		if p.Type == "row" {
			title = p.Title
			continue
		}
		drawn := drawing{panel: p, view: view.For(p)}
		for _, target := range p.Targets {
			found, err := d.Ask(ctx, api, p, target, view)
			if err != nil {
				return err
			}
			for _, s := range found {
				drawn.series = append(drawn.series, series{target.Legend(s.Metric), s.Metric, s.Values})
			}
		}
		slices.SortStableFunc(drawn.series, func(a, b series) int { return strings.Compare(a.name, b.name) })
		rows[title] = append(rows[title], drawn)
	}
	for title, drawings := range rows {
		if err := os.WriteFile(filepath.Join(folder, FileName(title)), picture(drawings), 0o644); err != nil {
			return fmt.Errorf("draw %q: %w", title, err)
		}
	}
	return nil
}

// FileName returns the name of a row's file.
func FileName(title string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(title), "-"), "-") + ".svg"
}

// picture returns the SVG of the panels of a row.
func picture(drawings []drawing) []byte {
	top, bottom := drawings[0].panel.GridPos.Y, 0
	for _, d := range drawings {
		bottom = max(bottom, d.panel.GridPos.Y+d.panel.GridPos.H)
	}
	svg := vgsvg.New(24*column, vg.Length(bottom-top)*line)
	canvas := draw.New(svg)
	rectangle(canvas, canvas.Rectangle, paper())
	for _, d := range drawings {
		g := d.panel.GridPos
		d.draw(draw.Canvas{Canvas: canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: vg.Length(g.X)*column + gap, Y: vg.Length(bottom-g.Y-g.H)*line + gap},
			Max: vg.Point{X: vg.Length(g.X+g.W)*column - gap, Y: vg.Length(bottom-g.Y)*line - gap},
		}})
	}
	var text bytes.Buffer
	_, _ = svg.WriteTo(&text) // a Buffer takes everything
	// Arial has the same widths, for readers without Liberation.
	return bytes.ReplaceAll(text.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
}

// draw draws a panel.
func (d drawing) draw(c draw.Canvas) {
	rectangle(c, c.Rectangle, white())
	border := draw.LineStyle{Color: grey(), Width: 0.75}
	c.StrokeLines(border, []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}, c.Min})
	inner := draw.Crop(c, 10, -10, 8, -8)
	inner.FillText(bold(12), vg.Point{X: inner.Min.X, Y: inner.Max.Y - 11}, d.panel.Title)
	inner = draw.Crop(inner, 0, 0, 0, -22)
	if len(d.series) == 0 {
		center := regular(13)
		center.XAlign, center.YAlign = draw.XCenter, draw.YCenter
		inner.FillText(center, inner.Center(), d.panel.FieldConfig.Defaults.NoValue)
		return
	}
	switch d.panel.Type {
	case "stat":
		d.numbers(inner)
	case "table":
		d.table(inner)
	case "state-timeline":
		d.bands(inner)
	default:
		d.chart(inner)
	}
}
