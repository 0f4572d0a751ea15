package draw

import (
	"strconv"
	"time"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// bands draws a coloured band for each series over time, with the word for its value.
func (d drawing) bands(c draw.Canvas) {
	names, words := regular(10), regular(9)
	words.Color = white()
	axis := regular(10)
	axis.Color, axis.XAlign = shade(), draw.XCenter
	left := vg.Length(0)
	for _, s := range d.series {
		left = max(left, names.Width(s.name)+10)
	}
	plotted := draw.Crop(c, left, -14, 18, 0)
	length := d.view.To.Sub(d.view.From)
	x := func(at time.Duration) vg.Length {
		return plotted.Min.X + (plotted.Max.X-plotted.Min.X)*vg.Length(at)/vg.Length(length)
	}
	for _, tick := range d.times(0, length.Seconds()) {
		at := x(time.Duration(tick.Value * float64(time.Second)))
		c.StrokeLine2(draw.LineStyle{Color: faint(), Width: 0.75}, at, plotted.Min.Y, at, plotted.Max.Y)
		c.FillText(axis, vg.Point{X: at, Y: c.Min.Y}, tick.Label)
	}
	high := min((plotted.Max.Y-plotted.Min.Y)/vg.Length(len(d.series)), 34)
	for i, s := range d.series {
		top := plotted.Max.Y - high*vg.Length(i)
		c.FillText(names, vg.Point{X: c.Min.X, Y: top - high/2 - 3.5}, s.name)
		for _, b := range d.merged(s) {
			band := vg.Rectangle{
				Min: vg.Point{X: x(b.from), Y: top - high*0.88},
				Max: vg.Point{X: min(x(b.to), plotted.Max.X), Y: top - high*0.12},
			}
			shown := d.shown(b.value)
			rectangle(c, band, named(shown.Color))
			if words.Width(shown.Text)+6 < band.Max.X-band.Min.X && shown.Color != "transparent" {
				c.FillText(words, vg.Point{X: band.Min.X + 4, Y: (band.Min.Y+band.Max.Y)/2 - 3}, shown.Text)
			}
		}
	}
}

// A band is a time in which a value stays the same.
type band struct {
	from, to time.Duration
	value    float64
}

// merged returns the bands of a series.
func (d drawing) merged(s series) []band {
	var all []band
	for _, v := range s.values {
		at := v.Timestamp.Time().Sub(d.view.From)
		last := len(all) - 1
		if last >= 0 && all[last].value == float64(v.Value) && at <= all[last].to {
			all[last].to = at + d.view.Step
			continue
		}
		all = append(all, band{at, at + d.view.Step, float64(v.Value)})
	}
	return all
}

// shown returns the word and the colour of a value.
func (d drawing) shown(value float64) struct{ Text, Color string } {
	for _, m := range d.panel.FieldConfig.Defaults.Mappings {
		if shown, ok := m.Options[strconv.FormatFloat(value, 'f', -1, 64)]; ok {
			return shown
		}
	}
	return struct{ Text, Color string }{format(value, d.panel.FieldConfig.Defaults.Unit), "green"}
}
