package draw

import (
	"image/color"
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// chart draws series over time, with a legend below.
func (d drawing) chart(c draw.Canvas) {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	defaults := d.panel.FieldConfig.Defaults
	p.X.Min, p.X.Max = 0, d.view.To.Sub(d.view.From).Seconds()
	p.X.Tick.Marker = plot.TickerFunc(d.times)
	p.Y.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick { return d.amounts(low, high, defaults.Unit) })
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Tick.Label.Font, axis.Tick.Label.Color = regular(10).Font, shade()
		axis.Color, axis.Tick.Color = grey(), grey()
		axis.Padding = 0
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = faint(), faint()
	p.Add(grid)

	highest := defaults.Custom.AxisSoftMax
	stacked := defaults.Custom.Stacking.Mode == "normal"
	below := make(map[model.Time]float64)
	for i, s := range d.series {
		points := d.points(s, stacked, below)
		for _, run := range points {
			for _, xy := range run.upper {
				highest = max(highest, xy.Y)
			}
			d.add(p, run, palette(i), stacked, defaults.Custom.DrawStyle == "bars")
		}
	}
	for _, step := range defaults.Thresholds.Steps {
		if step.Value != nil && *step.Value <= highest {
			at, _ := plotter.NewLine(plotter.XYs{{X: 0, Y: *step.Value}, {X: p.X.Max, Y: *step.Value}})
			at.Color, at.Dashes = red(), []vg.Length{5, 4}
			p.Add(at)
		}
	}
	p.Y.Min, p.Y.Max = 0, highest*1.08
	if highest == 0 {
		p.Y.Max = 1
	}
	low := d.legend(c)
	p.Draw(draw.Crop(c, 0, -4, low, 0))
}

// A stretch is a part of a series without a gap, with what it stands on.
type stretch struct{ upper, lower plotter.XYs }

// points returns a series' stretches. Where it is stacked it stands on those below, to which it is added.
func (d drawing) points(s series, stacked bool, below map[model.Time]float64) []stretch {
	var all []stretch
	last := model.Time(0)
	for _, v := range s.values {
		value := float64(v.Value)
		if math.IsNaN(value) || math.IsInf(value, 0) {
			continue
		}
		if last == 0 || v.Timestamp.Sub(last) > d.view.Step*3/2 {
			all = append(all, stretch{})
		}
		last = v.Timestamp
		base := 0.0
		if stacked {
			base = below[v.Timestamp]
			below[v.Timestamp] = base + value
		}
		x := v.Timestamp.Time().Sub(d.view.From).Seconds()
		run := &all[len(all)-1]
		run.upper = append(run.upper, plotter.XY{X: x, Y: base + value})
		run.lower = append(run.lower, plotter.XY{X: x, Y: base})
	}
	return all
}

// add adds a stretch to a plot: bars, or a line with an area below where it is stacked.
func (d drawing) add(p *plot.Plot, run stretch, colour color.RGBA, stacked, bars bool) {
	if bars {
		step := d.view.Step.Seconds()
		for i, xy := range run.upper {
			if low := run.lower[i].Y; xy.Y > low {
				bar, _ := plotter.NewPolygon(plotter.XYs{{X: xy.X - 0.9*step, Y: low}, {X: xy.X - 0.1*step, Y: low}, {X: xy.X - 0.1*step, Y: xy.Y}, {X: xy.X - 0.9*step, Y: xy.Y}})
				bar.Color, bar.Width = colour, 0
				p.Add(bar)
			}
		}
		return // each over the time that it counts
	}
	if stacked && len(run.upper) > 1 {
		area := slices.Clone(run.upper)
		for _, xy := range slices.Backward(run.lower) {
			area = append(area, xy)
		}
		filled, _ := plotter.NewPolygon(area)
		filled.Color, filled.Width = color.NRGBA{R: colour.R, G: colour.G, B: colour.B, A: 90}, 0
		p.Add(filled)
	}
	if len(run.upper) == 1 { // a line has no length then
		dot, _ := plotter.NewScatter(run.upper)
		dot.Color, dot.Radius, dot.Shape = colour, 1.5, draw.CircleGlyph{}
		p.Add(dot)
		return
	}
	drawn, _ := plotter.NewLine(run.upper)
	drawn.Color, drawn.Width = colour, 1.25
	p.Add(drawn)
}

// legend draws the names of what is not 0 all the time, and returns how high that is.
func (d drawing) legend(c draw.Canvas) vg.Length {
	const size, high, mark = 10, 14, 12
	style := regular(size)
	type entry struct {
		name   string
		colour color.Color
	}
	var shown []entry
	still := 0
	for i, s := range d.series {
		if slices.ContainsFunc(s.values, func(v model.SamplePair) bool { return v.Value != 0 && !math.IsNaN(float64(v.Value)) }) {
			shown = append(shown, entry{s.name, palette(i)})
		} else {
			still++
		}
	}
	if still > 0 && len(shown) > 0 {
		shown = append(shown, entry{number(float64(still)) + " more at 0", white()})
	} else if len(shown) == 0 {
		for i, s := range d.series {
			shown = append(shown, entry{s.name, palette(i)})
		}
	}
	x, rows := c.Min.X, 1
	places := make([]vg.Point, len(shown))
	for i, e := range shown {
		width := mark + 5 + style.Width(e.name) + 14
		if x+width > c.Max.X+14 && x > c.Min.X {
			x, rows = c.Min.X, rows+1
		}
		places[i] = vg.Point{X: x, Y: vg.Length(rows)}
		x += width
	}
	for i, e := range shown {
		y := c.Min.Y + high*(vg.Length(rows)-places[i].Y) + 3
		c.StrokeLine2(draw.LineStyle{Color: e.colour, Width: 3}, places[i].X, y+3, places[i].X+mark, y+3)
		c.FillText(style, vg.Point{X: places[i].X + mark + 5, Y: y}, e.name)
	}
	return high*vg.Length(rows) + 6
}

// times marks the horizontal axis in minutes and seconds from the left.
func (d drawing) times(_, high float64) []plot.Tick {
	step := 60.0
	if high <= 120 {
		step = 15
	}
	if d.panel.GridPos.W < 8 {
		step *= 2
	}
	var ticks []plot.Tick
	for at := 0.0; at <= high; at += step {
		ticks = append(ticks, plot.Tick{Value: at, Label: clock(time.Duration(at * float64(time.Second)))})
	}
	return ticks
}

// amounts marks the vertical axis at five round values at most, in a unit.
func (d drawing) amounts(_, high float64, unit string) []plot.Tick {
	scale, label := 1.0, func(v float64) string { return format(v, unit) }
	switch {
	case unit == "bytes":
		scale = 1 << 20
	case unit == "s" && high > 120:
		scale, label = 60, func(v float64) string { return number(v/60) + " min" }
	}
	step := roundUp(high/scale/4.5) * scale
	var ticks []plot.Tick
	for i := 0; float64(i)*step <= high; i++ {
		ticks = append(ticks, plot.Tick{Value: float64(i) * step, Label: label(float64(i) * step)})
	}
	return ticks
}

// roundUp returns the next 1, 2 or 5 with any number of zeros.
func roundUp(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, digit := range []float64{1, 2, 5} {
		if v <= digit*power {
			return digit * power
		}
	}
	return 10 * power
}
