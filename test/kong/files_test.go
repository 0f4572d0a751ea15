package kong

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matryer/is"
)

// declarativeText returns kong.yaml.
func declarativeText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../kong/kong.yaml")
	is.New(t).NoErr(err)
	return string(text)
}

// kubernetesText returns the objects of kubernetes/, as kubectl would read the folder.
func kubernetesText(t *testing.T) string {
	t.Helper()
	return folder(t, "../../kong/kubernetes")
}

func folder(t *testing.T, path string) string {
	t.Helper()
	is := is.New(t)
	names, err := filepath.Glob(filepath.Join(path, "*.yaml"))
	is.NoErr(err)
	is.True(len(names) > 0) // no file in the folder
	var texts []string
	for _, name := range names {
		text, err := os.ReadFile(name)
		is.NoErr(err)
		texts = append(texts, string(text))
	}
	return strings.Join(texts, "\n---\n")
}

// both returns what a Kong holds after either form was loaded.
func both(t *testing.T) map[string]*config {
	t.Helper()
	is := is.New(t)
	declarative, err := decode(declarativeText(t))
	is.NoErr(err)
	cluster, _, err := read(kubernetesText(t))
	is.NoErr(err)
	translated, err := cluster.translate()
	is.NoErr(err)
	return map[string]*config{"kong.yaml": declarative, "kubernetes": translated}
}
