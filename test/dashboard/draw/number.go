package draw

import (
	"slices"

	"github.com/prometheus/common/model"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

func plain() text.Handler { return text.Plain{Fonts: font.DefaultCache} }

// numbers draws the last value of each series, large.
func (d drawing) numbers(c draw.Canvas) {
	wide := (c.Max.X - c.Min.X) / vg.Length(len(d.series))
	name, value := regular(11), bold(24)
	name.XAlign, value.XAlign = draw.XCenter, draw.XCenter
	for i, s := range d.series {
		last := float64(s.values[len(s.values)-1].Value)
		shown := d.shown(last)
		value.Color = named(shown.Color)
		for _, step := range d.panel.FieldConfig.Defaults.Thresholds.Steps {
			if step.Value != nil && last >= *step.Value {
				value.Color = red()
			}
		}
		x := c.Min.X + wide*(vg.Length(i)+0.5)
		c.FillText(name, vg.Point{X: x, Y: c.Max.Y - 14}, s.name)
		c.FillText(value, vg.Point{X: x, Y: c.Min.Y + 12}, shown.Text)
	}
}

// table draws the labels of each series.
func (d drawing) table(c draw.Canvas) {
	columns := []string{"pod", "version", "commit", "goversion"}
	rows := [][]string{columns}
	for _, s := range d.series {
		var row []string
		for _, column := range columns {
			row = append(row, string(s.labels[model.LabelName(column)]))
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows[1:], slices.Compare)
	widths := []vg.Length{0.42, 0.24, 0.2, 0.14}
	for i, row := range rows {
		y, x := c.Max.Y-14-20*vg.Length(i), c.Min.X
		style := regular(9)
		if i == 0 {
			style = bold(9)
		}
		c.StrokeLine2(draw.LineStyle{Color: faint(), Width: 0.75}, c.Min.X, y-6, c.Max.X, y-6)
		for j, cell := range row {
			room := widths[j] * (c.Max.X - c.Min.X)
			c.FillText(style, vg.Point{X: x, Y: y}, cut(style, cell, room-8))
			x += room
		}
	}
}

// cut returns as much of a text as there is room for.
func cut(style draw.TextStyle, s string, room vg.Length) string {
	if style.Width(s) <= room {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && style.Width(string(runes)+"…") > room {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}
