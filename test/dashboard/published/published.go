// Package published reads a dashboard as it is published, and asks a Prometheus what each of its queries asks, as Grafana
// would.
package published

import (
	"encoding/json"
	"fmt"
	"os"
)

// A Dashboard is what is used of Grafana's JSON.
type Dashboard struct {
	UID        string  `json:"uid"`
	Panels     []Panel `json:"panels"`
	Templating struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Links []struct {
		URL string `json:"url"`
	} `json:"links"`
}

// A Variable is one that the reader of a dashboard chooses.
type Variable struct {
	Type     string `json:"type"` // query, datasource or constant
	Name     string `json:"name"`
	Query    any    `json:"query"`
	Multi    bool   `json:"multi"`
	AllValue string `json:"allValue"`
}

// A Panel is one, or a row's heading.
type Panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Interval    string   `json:"interval"` // the least time between two values, in Go's form; empty: any
	Targets     []Target `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit       string `json:"unit"`
			NoValue    string `json:"noValue"`
			Thresholds struct {
				Steps []struct {
					Value *float64 `json:"value"`
				} `json:"steps"`
			} `json:"thresholds"`
			Mappings []struct {
				Options map[string]struct {
					Text, Color string
				} `json:"options"`
			} `json:"mappings"`
			Custom struct {
				DrawStyle   string  `json:"drawStyle"`
				AxisSoftMax float64 `json:"axisSoftMax"`
				Stacking    struct {
					Mode string `json:"mode"`
				} `json:"stacking"`
			} `json:"custom"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

// A Target is a query of a panel.
type Target struct {
	RefID        string `json:"refId"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
	Instant      bool   `json:"instant"`
}

// Read reads a dashboard's file.
func Read(path string) (*Dashboard, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := new(Dashboard)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return d, nil
}

// text returns the text of a variable's query.
func (v Variable) text() string {
	switch query := v.Query.(type) {
	case string:
		return query
	case map[string]any:
		text, _ := query["query"].(string)
		return text
	}
	return ""
}
