package draw

import (
	"fmt"
	"image/color"
	"math"
	"strings"
	"time"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

func white() color.Color { return color.White }
func black() color.Color { return rgb(0x24292e) }
func paper() color.Color { return rgb(0xf4f5f5) }
func grey() color.Color  { return rgb(0xc7ccd1) }
func red() color.Color   { return rgb(0xe02f44) }
func faint() color.Color { return rgb(0xe6e9ec) }
func shade() color.Color { return rgb(0x6e7780) }

func rgb(hex uint32) color.RGBA {
	return color.RGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255}
}

// palette are colours that are told apart.
func palette(i int) color.RGBA {
	colours := []uint32{0x1f77b4, 0xff7f0e, 0x2ca02c, 0xd62728, 0x9467bd, 0x8c564b, 0xe377c2, 0x17becf, 0xbcbd22, 0x7f7f7f, 0x3b4cc0, 0xb40426}
	return rgb(colours[i%len(colours)])
}

// named returns one of Grafana's colours.
func named(name string) color.Color {
	switch name {
	case "green":
		return rgb(0x56a64b)
	case "red":
		return red()
	}
	return faint()
}

func regular(size font.Length) draw.TextStyle {
	return draw.TextStyle{Color: black(), Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}, Handler: plain()}
}

func bold(size font.Length) draw.TextStyle {
	style := regular(size)
	style.Font.Weight = xfont.WeightBold
	return style
}

func rectangle(c draw.Canvas, r vg.Rectangle, fill color.Color) {
	c.FillPolygon(fill, []vg.Point{r.Min, {X: r.Max.X, Y: r.Min.Y}, r.Max, {X: r.Min.X, Y: r.Max.Y}})
}

// format returns a value in one of Grafana's units.
func format(value float64, unit string) string {
	switch unit {
	case "s":
		if value == 0 {
			return "0"
		}
		if value < 1 && value > -1 {
			if math.Abs(value) < 0.001 {
				return number(value*1e6) + " µs"
			}
			return number(value*1000) + " ms"
		}
		if value < 120 {
			return number(value) + " s"
		}
		return number(value/60) + " min"
	case "bytes":
		return number(value/(1<<20)) + " MiB"
	case "percentunit":
		return number(value*100) + "%"
	case "reqps":
		return number(value) + " req/s"
	case "eps":
		return number(value) + " evt/s"
	case "ops":
		return number(value) + " ops/s"
	}
	return number(value)
}

// number returns a number with three digits at most that mean something.
func number(value float64) string {
	switch {
	case math.Abs(value) >= 100:
		return fmt.Sprintf("%.0f", value)
	case math.Abs(value) >= 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0")
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", value), "0"), ".")
}

// clock returns a time from the left end of a picture.
func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
