// Package e2e runs the built function on a real Vault, a real Ory Hydra and a real Prometheus, breaks them in every way that real ones
// break, and holds what the function says over HTTP to the contract. It imports nothing of the function but, for calls of its own, the
// clients of Vault and Ory.
//
//	go test -race -shuffle=on -count=1 -timeout 20m ./...   # minutes more the first time, which builds the servers
//	go test -run Chaos -v ./... -chaos 10m -seed 42         # longer, and the same faults again
//	go test ./... -function /path/to/binary                 # of another build
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"coffeebuddy/test/devstack"
)

// The flags of this package; tests read them with setting.
const (
	functionFlag = "function"
	chaosFlag    = "chaos"
	seedFlag     = "seed"
)

func TestMain(m *testing.M) {
	flag.String(functionFlag, "", "test this `binary` of the function instead of building one")
	flag.Duration(chaosFlag, 2*time.Minute, "how long the chaos lasts; 20s with -short")
	flag.Uint64(seedFlag, 0, "what the chaos' faults are drawn from; 0: another one each time")
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// run builds what is missing and runs the tests in a temporary folder, which goes on Ctrl-C, too. The processes that tests start
// end with this one.
func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "coffeebuddy-e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := errors.Join(
		os.Setenv("TMPDIR", dir), // of t.TempDir
		waitInParallel(),
		build(ctx, filepath.Join(dir, "function")),
	); err != nil {
		return 0, err
	}
	done := make(chan int, 1)
	go func() { done <- m.Run() }()
	select {
	case code := <-done:
		return code, nil
	case <-ctx.Done():
		return 1, errors.New("interrupted")
	}
}

// waitInParallel lets more tests run at a time than there are processors: they spend their time waiting for servers to start and
// for the 30 s that a token is believed.
func waitInParallel() error {
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if chosen {
		return nil
	}
	return flag.Set("test.parallel", "6")
}

// build builds the servers that are not in the user's cache yet, and the function unless there is one to test.
func build(ctx context.Context, path string) error {
	if err := devstack.Build(ctx, os.Stderr); err != nil {
		return err
	}
	if setting[string](functionFlag) != "" {
		return nil
	}
	command := exec.CommandContext(ctx, "go", "build", "-o", path, "./function")
	command.Dir = "../.." // the root module
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build the function: %w: %s", err, output)
	}
	return flag.Set(functionFlag, path)
}

// setting returns the value of a flag of this package.
func setting[T any](name string) T {
	return flag.Lookup(name).Value.(flag.Getter).Get().(T)
}
