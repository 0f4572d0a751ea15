package coffeebuddy

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// Relative links of every Markdown file lead to files that exist, and to headings that exist in them.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	var files []string
	is.NoErr(filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	}))
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	checked := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		is.NoErr(err)
		for _, found := range link.FindAllStringSubmatch(prose(string(text)), -1) {
			target, err := url.Parse(found[1])
			if err != nil || target.IsAbs() {
				continue
			}
			checked++
			path := file
			if target.Path != "" {
				path = filepath.Join(filepath.Dir(file), target.Path)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %s: no such file", file, found[1])
			} else if target.Fragment != "" && strings.HasSuffix(path, ".md") && !slices.Contains(anchors(t, path), target.Fragment) {
				t.Errorf("%s: %s: no such heading", file, found[1])
			}
		}
	}
	is.True(checked > 50)
}

// prose returns Markdown without its blocks of code.
func prose(text string) string {
	return regexp.MustCompile("(?ms)^ *```.*?^ *```").ReplaceAllString(text, "")
}

// anchors returns the fragments of a file's headings, as GitHub makes them.
func anchors(t *testing.T, file string) []string {
	t.Helper()
	is := is.New(t)
	text, err := os.ReadFile(file)
	is.NoErr(err)
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ +(.+)$`).FindAllStringSubmatch(prose(string(text)), -1) {
		words := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(words, " ", "-"))
	}
	return all
}
