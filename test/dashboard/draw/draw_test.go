package draw

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"testing"
	"time"

	"coffeebuddy/test/dashboard/published"

	"github.com/matryer/is"
	"github.com/prometheus/common/model"
)

func TestPicture(t *testing.T) {
	is := is.New(t)
	from := time.Unix(1_000_000, 0)
	view := published.View{From: from, To: from.Add(time.Minute), Step: time.Second}
	var drawings []drawing
	for i, kind := range []string{"timeseries", "state-timeline", "stat", "table"} {
		d := drawing{panel: published.Panel{Type: kind, Title: "a " + kind}, view: view, series: []series{{
			name: "a pod", labels: model.Metric{"pod": "a-1"}, values: []model.SamplePair{{Timestamp: model.TimeFromUnix(from.Unix()), Value: 1}},
		}}}
		d.panel.GridPos.X, d.panel.GridPos.W, d.panel.GridPos.H = 6*i, 6, 8
		drawings = append(drawings, d)
	}
	empty := drawings[0]
	empty.panel.GridPos.Y, empty.series = 8, nil
	empty.panel.FieldConfig.Defaults.NoValue = "no pod"
	drawings = append(drawings, empty)

	drawn := picture(drawings)
	is.Equal(string(drawn), string(picture(drawings))) // the same again
	for _, text := range []string{"a timeseries", "a state-timeline", "a stat", "a table", "a-1", ">no pod<", "Liberation Sans,Arial"} {
		if !bytes.Contains(drawn, []byte(text)) {
			t.Errorf("the picture does not show %q", text)
		}
	}
	for decoder := xml.NewDecoder(bytes.NewReader(drawn)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestFormat(t *testing.T) {
	for want, given := range map[string]struct {
		value float64
		unit  string
	}{
		"0":         {0, "s"},
		"250 µs":    {0.00025, "s"},
		"63.6 ms":   {0.0636, "s"},
		"1.5 s":     {1.5, "s"},
		"3 min":     {180, "s"},
		"3.34%":     {0.03341, "percentunit"},
		"224 MiB":   {224 << 20, "bytes"},
		"0.5 req/s": {0.5, "reqps"},
		"12":        {12, "short"},
	} {
		is.New(t).Equal(format(given.value, given.unit), want)
	}
}
