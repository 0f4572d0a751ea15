package observability

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// TestRunbooks holds each alert to a page that names it and has what somebody who was woken looks for, in this order; and each
// page to an alert.
func TestRunbooks(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	_, alerting := loadRules(t)
	pages := make(map[string][]string) // the alerts of each
	for _, alert := range alerting {
		page := alert.Annotations["runbook"]
		pages[page] = append(pages[page], alert.Alert)
	}
	for page, alerts := range pages {
		t.Run(page, func(t *testing.T) {
			is := is.New(t)
			bytes, err := os.ReadFile(filepath.Join("../..", page))
			is.NoErr(err)
			text := string(bytes)
			title, rest, _ := strings.Cut(text, "\n")
			for _, alert := range alerts {
				is.True(strings.Contains(title, alert)) // the title names its alerts
			}
			for _, section := range []string{"What it means", "How bad it is", "What to look at", "What to do"} {
				_, after, found := strings.Cut(rest, "\n## "+section+"\n")
				if !found {
					t.Fatalf("there is no section %q, or not in this order", section)
				}
				rest = after
			}
			is.True(strings.Contains(text, "\n```sh\n")) // exact commands
		})
	}
	files, err := filepath.Glob("../../docs/runbooks/*.md")
	is.NoErr(err)
	for _, file := range files {
		page := "docs/runbooks/" + filepath.Base(file)
		if pages[page] == nil {
			t.Errorf("%s is the page of no alert", page)
		}
	}
	is.Equal(len(files), len(pages))
}
