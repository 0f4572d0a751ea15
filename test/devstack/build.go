package devstack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// part is a server that is built from its source.
type part struct {
	name     string
	version  string
	folder   string   // of its module, beside this file
	estimate string   // how long its first build takes, for people
	cgo      bool     // whether it needs a C compiler
	args     []string // of go build
	works    string   // the versions of an installed command that are used in place of a build: what it prints, asked for its version, starts so, with single spaces
}

func vaultPart() part {
	return part{
		name: "vault", version: "1.21.4", folder: "vault", estimate: "2 to 3 minutes",
		args:  []string{"-ldflags=-s -w", "."},
		works: "Vault v1.21.",
	}
}

func hydraPart() part {
	const version = "2.3.0"
	return part{
		name: "hydra", version: version, folder: "hydra", estimate: "1 to 2 minutes", cgo: true,
		args: []string{
			"-tags=sqlite,json1",
			"-ldflags=-s -w -X github.com/ory/hydra/v2/driver/config.Version=v" + version,
			"github.com/ory/hydra/v2",
		},
		works: "Version: v2.3.",
	}
}

// Build builds the servers that are not in the user's cache yet, and writes to progress what it does. A missing tool is an error before
// anything is built.
func Build(ctx context.Context, progress io.Writer) error {
	parts := []part{vaultPart(), hydraPart()}
	for _, part := range parts {
		executable, err := part.executable()
		if err != nil {
			return err
		}
		if exists(executable) || part.installed(ctx) != "" {
			continue
		}
		if _, err := part.tools(ctx); err != nil {
			return err
		}
	}
	for _, part := range parts {
		if _, err := part.build(ctx, progress); err != nil {
			return err
		}
	}
	return nil
}

// build returns the part's executable: one that was built before, or an installed one, or a new one. Of two processes that need it at a
// time, one builds it and the other one waits.
func (p part) build(ctx context.Context, progress io.Writer) (string, error) {
	executable, err := p.executable()
	if err != nil || exists(executable) {
		return executable, err
	}
	if path := p.installed(ctx); path != "" {
		fmt.Fprintf(progress, "%s: using %s, which is installed\n", p.name, path)
		return path, nil
	}
	lockFile := filepath.Join(filepath.Dir(executable), p.name+".lock")
	held, err := tryLock(lockFile)
	if errors.Is(err, errLocked) {
		fmt.Fprintf(progress, "%s %s: another launcher is building it, waiting\n", p.name, p.version)
		held, err = lock(ctx, lockFile)
	}
	if err != nil {
		return "", fmt.Errorf("wait for another build of %s: %w", p.name, err)
	}
	defer held.Close()
	if exists(executable) {
		return executable, nil
	}
	return executable, p.compile(ctx, executable, progress)
}

// executable returns the path of the part in the cache, whether it has been built or not. Another source, way to build or Go has
// another path.
func (p part) executable() (string, error) {
	bin, err := cacheDir("bin")
	if err != nil {
		return "", err
	}
	key, err := p.key()
	if err != nil {
		return "", fmt.Errorf("read the source of %s (this program must not be built with -trimpath, nor its source moved): %w", p.name, err)
	}
	return filepath.Join(bin, p.name+"-"+p.version+"-"+key), nil
}

// installed returns the path of an installed command of a version that works, or nothing.
func (p part) installed(ctx context.Context) string {
	path, err := exec.LookPath(p.name)
	if err != nil || p.works == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	version := exec.CommandContext(ctx, path, "version")
	version.Env = plainEnvironment()
	said, err := version.Output()
	if words := strings.Join(strings.Fields(string(said)), " "); err != nil || !strings.HasPrefix(words, p.works) {
		return ""
	}
	return path
}

// source returns the folder of the part's module.
func (p part) source() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), p.folder)
}

func (p part) key() (string, error) {
	source := p.source()
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, p.args)
	err := filepath.WalkDir(source, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(file) == ".md" {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintln(hash, strings.TrimPrefix(file, source), len(content))
		hash.Write(content)
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:6]), nil
}

// compile builds the executable. It appears under its name only when it is whole.
func (p part) compile(ctx context.Context, executable string, progress io.Writer) error {
	goTool, err := p.tools(ctx)
	if err != nil {
		return err
	}
	work, err := newState(ctx)
	if err != nil {
		return err
	}
	defer work.remove()
	output, log := work.file(p.name), filepath.Join(filepath.Dir(executable), p.name+".log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("start a new build log: %w", err)
	}

	fmt.Fprintf(progress, "%s %s: building it, once; this takes %s on two cores (log: %s)\n", p.name, p.version, p.estimate, log)
	start := time.Now()
	build, err := StartProcess(ctx, Command{
		Name: "go build",
		Path: goTool,
		Args: append([]string{"build", "-o", output}, p.args...),
		Env:  append(os.Environ(), "CGO_ENABLED="+p.cgoEnabled(), "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOTMPDIR="+work.path),
		Dir:  p.source(), Log: log, Family: true,
	})
	if err != nil {
		return err
	}
	p.await(build, start, progress)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("build %s: %w", p.name, err)
	}
	if build.ExitCode() != 0 {
		return p.failure(log)
	}
	if err := os.Rename(output, executable); err != nil {
		return fmt.Errorf("keep the built %s: %w", p.name, err)
	}
	fmt.Fprintf(progress, "%s %s: built in %s\n", p.name, p.version, time.Since(start).Round(time.Second))
	return nil
}

// await waits for the end of a build and says every 20 s that it goes on.
func (p part) await(build *Process, start time.Time, progress io.Writer) {
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-build.Ended():
			return
		case <-tick.C:
			fmt.Fprintf(progress, "%s %s: still building after %s\n", p.name, p.version, time.Since(start).Round(time.Second))
		}
	}
}

// tools returns the go command, and fails when it or the C compiler is missing.
func (p part) tools(ctx context.Context) (string, error) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("building %s needs the go command, and there is none on the PATH", p.name)
	}
	if !p.cgo {
		return goTool, nil
	}
	compiler, err := exec.CommandContext(ctx, goTool, "env", "CC").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its C compiler: %w", err)
	}
	if name, _, _ := strings.Cut(strings.TrimSpace(string(compiler)), " "); !onPath(name) {
		return "", fmt.Errorf("building %s needs a C compiler, and there is no %q on the PATH (Debian: apt-get install gcc libc6-dev)", p.name, name)
	}
	return goTool, nil
}

func (p part) cgoEnabled() string {
	if p.cgo {
		return "1"
	}
	return "0"
}

// failure says in a sentence why a build failed.
func (p part) failure(log string) error {
	content, err := os.ReadFile(log)
	if err != nil {
		return fmt.Errorf("build %s: %w", p.name, err)
	}
	for _, sign := range []string{"dial tcp", "no such host", "GOPROXY=off", "proxyconnect", "i/o timeout", "TLS handshake"} {
		if strings.Contains(string(content), sign) {
			return fmt.Errorf("building %s needs the network to fetch Go modules, once, and they cannot be fetched (log: %s)", p.name, log)
		}
	}
	return fmt.Errorf("building %s failed (log: %s)", p.name, log)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func onPath(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
