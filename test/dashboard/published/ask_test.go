package published

import (
	"testing"
	"time"

	"github.com/matryer/is"
)

// TestSubstitute holds the replacement to what Grafana does for Prometheus.
func TestSubstitute(t *testing.T) {
	d := new(Dashboard)
	d.Templating.List = []Variable{{Name: "namespace", AllValue: ".*"}, {Name: "pod", AllValue: ".+"}}
	to := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		query, want string
		view        View
	}{
		"All is what the variable says":             {query: `up{namespace=~"$namespace", pod=~"${pod}"}`, want: `up{namespace=~".*", pod=~".+"}`},
		"one value is itself":                       {query: `up{pod=~"$pod"}`, want: `up{pod=~"a-1"}`, view: View{Chosen: map[string][]string{"pod": {"a-1"}}}},
		"several are alternatives":                  {query: `up{pod=~"$pod"}`, want: `up{pod=~"(a|b)"}`, view: View{Chosen: map[string][]string{"pod": {"a", "b"}}}},
		"what a pattern would take is quoted":       {query: `up{pod=~"$pod"}`, want: `up{pod=~"a\\.b"}`, view: View{Chosen: map[string][]string{"pod": {"a.b"}}}},
		"a rate is over four scrapes at least":      {query: `[$__rate_interval]`, want: `[60s]`, view: View{Step: 15 * time.Second, Scrape: 15 * time.Second}},
		"and over a step and a scrape":              {query: `[$__rate_interval]`, want: `[135s]`, view: View{Step: 2 * time.Minute, Scrape: 15 * time.Second}},
		"an interval is a step":                     {query: `[$__interval]`, want: `[30s]`, view: View{Step: 30 * time.Second}},
		"a range is all of the view":                {query: `[$__range]`, want: `[3600s]`, view: View{From: to.Add(-time.Hour), To: to}},
		"what is no variable stays what it was":     {query: `"$1"`, want: `"$1"`},
		"a panel's least interval is a rate's, too": {query: `[$__interval]`, want: `[60s]`, view: View{Step: time.Second}.For(Panel{Interval: "1m"})},
	} {
		t.Run(name, func(t *testing.T) {
			is.New(t).Equal(d.Substitute(test.query, test.view), test.want)
		})
	}
}
