package devstack

import (
	"bytes"
	"cmp"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/matryer/is"
)

func TestBuildIsDoneOnce(t *testing.T) {
	is := is.New(t)
	emptyCache(t)
	tiny := part{name: "tiny", version: "1", folder: "testdata/tiny", estimate: "a second", args: []string{"."}}
	var said [2]bytes.Buffer
	var paths [2]string
	var both sync.WaitGroup
	for i := range said {
		both.Go(func() {
			path, err := tiny.build(t.Context(), &said[i])
			if err != nil {
				t.Error(err)
			}
			paths[i] = path
		})
	}
	both.Wait()
	is.Equal(paths[0], paths[1])
	is.True(exists(paths[0]))
	is.Equal(strings.Count(said[0].String()+said[1].String(), "tiny 1: built in"), 1)
}

func TestBuildSaysWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct {
		variable, value string
		want            string
	}{
		"no go command": {"PATH", t.TempDir(), "building vault needs the go command, and there is none on the PATH"},
		"no C compiler": {"CC", "no-such-compiler -O2", `building hydra needs a C compiler, and there is no "no-such-compiler" on the PATH (Debian: apt-get install gcc libc6-dev)`},
		"no network":    {"GOPROXY", "off", "building vault needs the network to fetch Go modules, once, and they cannot be fetched (log: "},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			emptyCache(t)
			t.Setenv("GOMODCACHE", t.TempDir())
			t.Setenv(test.variable, test.value)
			err := Build(t.Context(), io.Discard)
			is.True(err != nil)
			is.True(strings.HasPrefix(err.Error(), test.want)) // one sentence
			is.True(!strings.Contains(err.Error(), "\n"))
		})
	}
}

// emptyCache gives a test a cache directory of its own, but the usual cache of the go command.
func emptyCache(t *testing.T) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", cmp.Or(os.Getenv("GOCACHE"), filepath.Join(cache, "go-build")))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
}
