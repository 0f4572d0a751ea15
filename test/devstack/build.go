package devstack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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
	estimate string   // how long its first build takes, for people
	cgo      bool     // whether it needs a C compiler
	args     []string // of go build
}

func vaultPart() part {
	return part{
		name: "vault", version: "1.21.4", estimate: "2 to 5 minutes",
		args: []string{"-ldflags=-s -w", "."},
	}
}

func hydraPart() part {
	const version = "2.3.0"
	return part{
		name: "hydra", version: version, estimate: "1 to 2 minutes", cgo: true,
		args: []string{
			"-tags=sqlite,json1",
			"-ldflags=-s -w -X github.com/ory/hydra/v2/driver/config.Version=v" + version,
			"github.com/ory/hydra/v2",
		},
	}
}

// Build builds the servers that are not in the user's cache yet, and writes to progress what it does.
func Build(ctx context.Context, progress io.Writer) error {
	for _, part := range []part{vaultPart(), hydraPart()} {
		if _, err := part.build(ctx, progress); err != nil {
			return err
		}
	}
	return nil
}

// build returns the part's executable. Of two processes that need it at a time, one builds it and the other one waits.
func (p part) build(ctx context.Context, progress io.Writer) (string, error) {
	source, err := p.source()
	if err != nil {
		return "", err
	}
	key, err := p.key(source)
	if err != nil {
		return "", fmt.Errorf("read the source of %s: %w", p.name, err)
	}
	bin, err := cacheDir("bin")
	if err != nil {
		return "", err
	}
	executable := filepath.Join(bin, p.name+"-"+p.version+"-"+key)
	if exists(executable) {
		return executable, nil
	}
	lockFile := filepath.Join(bin, p.name+".lock")
	held, err := tryLock(lockFile)
	if errors.Is(err, errLocked) {
		fmt.Fprintf(progress, "%s %s: another launcher is building it, waiting\n", p.name, p.version)
		held, err = lock(ctx, lockFile)
	}
	if err != nil {
		return "", err
	}
	defer held.Close()
	if exists(executable) {
		return executable, nil
	}
	return executable, p.compile(ctx, source, executable, progress)
}

// source returns the folder of the part's module, beside this file.
func (p part) source() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	folder := filepath.Join(filepath.Dir(file), p.name)
	if !exists(filepath.Join(folder, "go.mod")) {
		return "", fmt.Errorf("find the source of %s: %s holds no Go module (this program must not be built with -trimpath, nor its source moved)", p.name, folder)
	}
	return folder, nil
}

// key returns what tells one build of the part from another: its source, how it is built, and by which Go.
func (p part) key(source string) (string, error) {
	files, err := filepath.Glob(filepath.Join(source, "*.go"))
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, p.args)
	for _, file := range append(files, filepath.Join(source, "go.mod"), filepath.Join(source, "go.sum")) {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(hash, filepath.Base(file), len(content))
		hash.Write(content)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:6]), nil
}

// compile builds the executable. It appears under its name only when it is whole.
func (p part) compile(ctx context.Context, source, executable string, progress io.Writer) error {
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
		Dir:  source, Log: log, Family: true,
	})
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	for build.Running() {
		select {
		case <-build.Ended():
		case <-tick.C:
			fmt.Fprintf(progress, "%s %s: still building after %s\n", p.name, p.version, time.Since(start).Round(time.Second))
		}
	}
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
	return fmt.Errorf("building %s failed (log: %s)%s", p.name, log, lastLine(log))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func onPath(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
