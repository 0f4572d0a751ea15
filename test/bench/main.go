// Command bench measures the function beside what else one could run, all in one go: each program a process of its own, stripped, asked
// over loopback, in rounds in which all have their turn, so that a machine that is busy with something else hits all alike.
//
//	go run .             # everything, twelve minutes on two cores, into docs/performance.md
//	go run . -quick      # two minutes, to see that it works; prints, and changes no file
//	go run . -quick -only 'throughput|growth'
//
// It exits with 1 when a request failed, or when a figure is so far off that something is broken; the aims that stand in the tables
// are no such bounds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"coffeebuddy/test/devstack"
)

func main() {
	root := flag.String("root", "../..", "where the repository is")
	quick := flag.Bool("quick", false, "few and short rounds, and no file is changed")
	only := flag.String("only", "", "a `pattern` of the steps to run; no file is changed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *root, *quick, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A bench is what the steps share.
type bench struct {
	plan
	root, dir string // of the repository, of files that go at the end
	binaries  binaries
	python    string   // the interpreter, empty where the FastAPI service cannot run
	healthy   platform // a real Vault and a real Hydra
	results   *results
	closers   []func() error
}

func run(ctx context.Context, root string, quick bool, only string) (err error) {
	began := time.Now()
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if root, err = filepath.Abs(root); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "coffeebuddy-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	b := &bench{plan: fullPlan(), root: root, dir: dir, results: &results{Machine: thisMachine(), Quick: quick}}
	if quick {
		b.plan = quickPlan()
	}
	defer func() {
		for _, end := range b.closers {
			err = errors.Join(err, end())
		}
	}()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	b.results.LoadBefore = load()
	var failed []error
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"size", b.size},
		{"cold start", b.coldStart},
		{"throughput", b.throughput}, // and memory before and after, and allocations
		{"latency", b.latency},
		{"upstream", b.upstream},
		{"growth", b.growth},
		{"without a network", b.withoutNetwork},
		{"instructions", b.instructions}, // last, since they do not mind a busy machine
	} {
		if !pattern.MatchString(step.name) {
			continue
		}
		at := time.Now()
		progress("%s", step.name)
		err := step.run(ctx)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil { // the other steps' figures are worth having
			failed = append(failed, fmt.Errorf("%s: %w", step.name, err))
		}
		progress("%s: took %s", step.name, time.Since(at).Round(time.Second))
	}
	b.results.Took = time.Since(began)
	failed = append(failed, b.publish(!quick && only == "" && len(failed) == 0), b.results.broken(only == ""))
	return errors.Join(failed...)
}

// prepare builds the programs, starts a real Vault and a real Hydra, and says what there is to measure.
func (b *bench) prepare(ctx context.Context) (err error) {
	progress("build")
	if b.binaries, err = buildAll(ctx, b.root, b.dir); err != nil {
		return err
	}
	path, python, err := findPython(ctx)
	if err != nil {
		b.results.NoPython = err.Error()
		progress("no FastAPI service: %v", err)
	} else if b.python, err = exec.LookPath(path); err != nil {
		return err
	}
	progress("start Vault and Hydra")
	vault, err := devstack.StartVault(ctx, devstack.VaultOptions{Progress: os.Stderr})
	if err != nil {
		return err
	}
	b.closers = append(b.closers, vault.Close)
	hydra, err := devstack.StartHydra(ctx, devstack.HydraOptions{Progress: os.Stderr})
	if err != nil {
		return err
	}
	b.closers = append(b.closers, hydra.Close)
	b.healthy = platform{vault.URL, hydra.AdminURL, vault.Token}
	return b.versions(python)
}

func (b *bench) versions(python []version) error {
	b.results.Versions = []version{{"Go", runtime.Version()[len("go"):]}}
	for _, of := range []struct{ binary, module, name string }{
		{"health", "github.com/alexliesenfeld/health", "alexliesenfeld/health"},
		{"sdk", "github.com/cloudevents/sdk-go/v2", "cloudevents/sdk-go"},
		{"funcgo", "knative.dev/func-go", "func-go"},
		{"promhttp", "github.com/prometheus/client_golang", "client_golang"},
	} {
		number, err := versionOf(b.binaries[of.binary], of.module)
		if err != nil {
			return err
		}
		b.results.Versions = append(b.results.Versions, version{of.name, number})
	}
	b.results.Versions = append(b.results.Versions, python...)
	return nil
}

// publish prints the tables, and writes them into the documentation where that is wanted.
func (b *bench) publish(write bool) error {
	text := b.results.markdown()
	fmt.Println(text)
	if !write {
		return nil
	}
	figures, err := json.MarshalIndent(b.results, "", "\t")
	if err != nil {
		return err
	}
	bin := filepath.Join(b.root, "bin") // not committed
	return errors.Join(
		os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(bin, "bench.json"), figures, 0o644),
		rewrite(filepath.Join(b.root, "docs", "performance.md"), text),
		os.WriteFile(filepath.Join(b.root, "docs", "performance.svg"), []byte(b.results.picture()), 0o644),
	)
}

func progress(format string, values ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05")+" "+format+"\n", values...)
}
