package main

import (
	"fmt"
	"html"
	"strings"
)

// A panel is one group of bars. Less is better.
type panel struct {
	title, unit string
	bars        []bar
}

type bar struct {
	name  string
	value float64
	ours  bool
}

func (p *panel) add(name string, value float64) {
	if value > 0 {
		p.bars = append(p.bars, bar{name, value, name == "CoffeeBuddy"})
	}
}

// picture draws what an event, a start and an idle pod cost, of this function and of what else receives events, as SVG. Its colours are
// readable on light and on dark.
func (r *results) picture() string {
	panels := []*panel{{title: "processor time of an event", unit: "µs"}, {title: "exec to the first 200", unit: "ms"}, {title: "memory, idle", unit: "MiB"}}
	for _, who := range []struct{ name, row string }{
		{"CoffeeBuddy", functionName}, {"CloudEvents SDK", sdkName}, {"func-go", funcgoName}, {"FastAPI", fastapiName},
	} {
		row := who.row
		if row == functionName {
			row = handlerName
		}
		if t, ok := r.row(binaryEvent, row); ok {
			panels[0].add(who.name, t.CPU)
		}
		for _, s := range r.Starts {
			if s.Who == who.row {
				panels[1].add(who.name, s.P50)
			}
		}
		for _, f := range r.Footprint {
			if f.Who == who.row {
				panels[2].add(who.name, f.Idle)
			}
		}
	}
	return draw(panels)
}

func draw(panels []*panel) string {
	const (
		width, left, right = 720, 150, 90 // of the picture, of names, of figures
		title, line, gap   = 24, 22, 14
	)
	var body strings.Builder
	y := 8
	for _, p := range panels {
		if len(p.bars) == 0 {
			continue
		}
		most := 0.0
		for _, b := range p.bars {
			most = max(most, b.value)
		}
		fmt.Fprintf(&body, "<text class=\"title\" x=\"%d\" y=\"%d\">%s</text>\n", left, y+15, html.EscapeString(p.title))
		y += title
		for _, b := range p.bars {
			class := "other"
			if b.ours {
				class = "ours"
			}
			length := max(1, b.value/most*float64(width-left-right))
			fmt.Fprintf(&body, "<text text-anchor=\"end\" x=\"%d\" y=\"%d\">%s</text>\n", left-8, y+13, html.EscapeString(b.name))
			fmt.Fprintf(&body, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"16\" rx=\"2\"/>\n", class, left, y+1, length)
			fmt.Fprintf(&body, "<text x=\"%.1f\" y=\"%d\">%s %s</text>\n", float64(left)+length+6, y+13, figure(b.value), p.unit)
			y += line
		}
		y += gap
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img">
<title>What an event, a start and an idle process cost: CoffeeBuddy beside the CloudEvents SDK, func-go and FastAPI</title>
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.ours { fill: #2f6fde }
.other { fill: #9aa4b0 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .ours { fill: #6ea8fe } .other { fill: #6b7480 } }
</style>
%[3]s</svg>
`, width, y, body.String())
}
