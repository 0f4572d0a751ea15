// Package image builds the function's image with ko, by the project's own configuration, from a base and to a registry on this
// machine: no network is needed.
package image

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/matryer/is"
)

const repository = "../.."

// newRegistry starts a registry that holds a base image like distroless' static one, for two platforms. It returns the registry's
// host and the base's name.
func newRegistry(t *testing.T) (host, base string) {
	t.Helper()
	is := is.New(t)
	is.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host = strings.TrimPrefix(server.URL, "http://")
	index := v1.ImageIndex(empty.Index)
	for _, architecture := range []string{"amd64", "arm64"} {
		image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
			OS: "linux", Architecture: architecture, Config: v1.Config{User: "65532"}, RootFS: v1.RootFS{Type: "layers"},
		})
		is.NoErr(err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	base = host + "/base:nonroot"
	ref, err := name.ParseReference(base)
	is.NoErr(err)
	is.NoErr(remote.WriteIndex(ref, index))
	return host, base
}

// ko runs ko at the top of the repository, with an environment that holds nothing of the user's but where Go and git are.
func ko(t *testing.T, env []string, args ...string) (stdout string, err error) {
	t.Helper()
	path, err := exec.CommandContext(t.Context(), "go", "tool", "-n", "ko").Output()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(t.Context(), strings.TrimSpace(string(path)), args...)
	cmd.Dir = repository
	for _, name := range []string{"PATH", "HOME", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOTOOLCHAIN"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return "", errors.New(failure.String())
	}
	return string(out), nil
}

// function returns the executable in an image, and the image's configuration.
func function(t *testing.T, image v1.Image) (executable []byte, config *v1.ConfigFile) {
	t.Helper()
	is := is.New(t)
	is.Helper()
	config, err := image.ConfigFile()
	is.NoErr(err)
	files := mutate.Extract(image)
	defer files.Close()
	for reader := tar.NewReader(files); ; {
		header, err := reader.Next()
		is.NoErr(err) // the executable is there
		if strings.TrimPrefix(header.Name, "/") == "ko-app/function" {
			executable, err = io.ReadAll(reader)
			is.NoErr(err)
			return executable, config
		}
	}
}

// anotherOwner makes git treat every checkout as one that another user owns.
const anotherOwner = "GIT_TEST_ASSUME_DIFFERENT_OWNER=1"

// head returns the commit that is checked out. Only a copy of the sources without their history has none.
func head(t *testing.T) string {
	t.Helper()
	is := is.New(t)
	is.Helper()
	if _, err := os.Stat(repository + "/.git"); errors.Is(err, os.ErrNotExist) {
		t.Skip("not a git repository")
	}
	out, err := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "-C", repository, "rev-parse", "HEAD").Output()
	is.NoErr(err)
	return strings.TrimSpace(string(out))
}

// The commands of the Makefile build in a checkout that another user owns.
func TestMakeTrustsItsCheckout(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	head(t)
	plain := exec.CommandContext(t.Context(), "git", "-C", repository, "status", "--porcelain")
	plain.Env = append(os.Environ(), anotherOwner, "HOME="+t.TempDir(), "GIT_CONFIG_COUNT=0", "GIT_CONFIG_NOSYSTEM=1")
	out, err := plain.CombinedOutput()
	is.True(err != nil && strings.Contains(string(out), "dubious ownership")) // what Go's build would fail of

	build := exec.CommandContext(t.Context(), "make", "-C", repository, "--eval", "probe: ; @git status --porcelain", "probe")
	build.Env = plain.Env
	out, err = build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// What `ko apply -f knative` does before it calls kubectl, for one platform, with nothing but where the registry and the base are.
func TestPlainKoUsesTheProjectsConfiguration(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	host, base := newRegistry(t)
	revision := head(t)
	resolved, err := ko(t, []string{
		"KO_DOCKER_REPO=" + host, "KO_DEFAULTBASEIMAGE=" + base, "KO_DEFAULTPLATFORMS=linux/amd64",
		"GOFLAGS=-buildvcs=false", // the configuration has its own
		anotherOwner,
	}, "resolve", "-f", "knative")
	is.NoErr(err)
	_, after, found := strings.Cut(resolved, "image: ")
	is.True(found)
	reference, _, _ := strings.Cut(after, "\n")
	is.True(strings.HasPrefix(reference, host+"/") && strings.Contains(reference, "@sha256:"))
	is.True(!strings.Contains(resolved, "ko://"))

	ref, err := name.ParseReference(reference)
	is.NoErr(err)
	image, err := remote.Image(ref)
	is.NoErr(err)
	executable, config := function(t, image)
	is.Equal(config.Config.User, "65532")
	is.Equal(config.Config.Entrypoint, []string{"/ko-app/function"})
	is.Equal(config.Architecture, "amd64")

	info, err := buildinfo.Read(bytes.NewReader(executable))
	is.NoErr(err)
	built := map[string]string{}
	for _, s := range info.Settings {
		built[s.Key] = s.Value
	}
	is.Equal(built["vcs.revision"], revision)          // what coffeebuddy_build_info shows
	is.True(strings.HasPrefix(info.Main.Version, "v")) // a tag, or a version that Go made of the commit
	is.Equal(built["-trimpath"], "true")
	is.Equal(built["CGO_ENABLED"], "0")
	file, err := elf.NewFile(bytes.NewReader(executable))
	is.NoErr(err)
	is.Equal(file.Section(".symtab"), nil) // -s
	libraries, err := file.ImportedLibraries()
	is.NoErr(err)
	is.Equal(len(libraries), 0) // the base has none
	is.True(!bytes.Contains(executable, []byte(workingDirectory(t))))

	// Who wants to know what is in the image finds the list of it beside it.
	tags, err := remote.List(ref.Context())
	is.NoErr(err)
	is.True(slices.ContainsFunc(tags, func(tag string) bool { return strings.HasSuffix(tag, ".sbom") }))
}

func workingDirectory(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(repository)
	is.New(t).NoErr(err)
	return dir
}

// ko looks for .ko.yaml, and takes a base of its own where there is none.
func TestTheConfigurationIsWhereKoLooks(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	read, err := os.ReadFile(repository + "/.ko.yaml")
	is.NoErr(err)
	shown, err := os.ReadFile(repository + "/ko.yaml")
	is.NoErr(err)
	is.Equal(string(read), string(shown))
	// A base that cannot be had is named in the error, so one sees which it would be.
	host, _ := newRegistry(t)
	_, err = ko(t, []string{"KO_DOCKER_REPO=" + host, "KO_DEFAULTPLATFORMS=linux/amd64", "HTTPS_PROXY=http://127.0.0.1:1"}, "build", "./function")
	is.True(err != nil)
	is.True(strings.Contains(err.Error(), "distroless/static-debian12"))
}

// A checkout without symbolic links, as on Windows, gets files that hold their targets' names instead.
func TestNoSymbolicLinkIsTracked(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	head(t)
	out, err := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "-C", repository, "ls-files", "--stage").Output()
	is.NoErr(err)
	is.True(strings.Contains(string(out), "100644 ")) // files are listed
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "120000 ") {
			t.Errorf("a symbolic link: %s", line)
		}
	}
}

func TestTheImageIsForBothPlatforms(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for arm64")
	}
	t.Parallel()
	is := is.New(t)
	host, base := newRegistry(t)
	reference, err := ko(t, []string{"KO_DOCKER_REPO=" + host, "KO_DEFAULTBASEIMAGE=" + base}, "build", "./function")
	is.NoErr(err)
	ref, err := name.ParseReference(strings.TrimSpace(reference))
	is.NoErr(err)
	index, err := remote.Index(ref)
	is.NoErr(err)
	manifest, err := index.IndexManifest()
	is.NoErr(err)
	var architectures []string
	for _, m := range manifest.Manifests {
		architectures = append(architectures, m.Platform.Architecture)
		image, err := index.Image(m.Digest)
		is.NoErr(err)
		_, config := function(t, image)
		is.Equal(config.Architecture, m.Platform.Architecture)
	}
	slices.Sort(architectures)
	is.Equal(architectures, []string{"amd64", "arm64"})
}
