// Package queueproxy runs the built function behind the real queue-proxy of Knative Serving, each pod in a network namespace of its
// own, on a real Vault and a real Ory Hydra. What kubelet and the activator do to a pod the tests do: probe it, send it traffic, stop
// it. What a pod is, its variables, probes and times, Knative's own code makes of the manifests in knative/. It imports nothing of the
// function.
//
//	go test -race -shuffle=on -count=1 -timeout 20m   # as root, on Linux; elsewhere it is skipped
//	go test -run Drain -v
//
// At the end it prints what it has measured, which go test shows when it is called in this folder and without the name of a package.
package queueproxy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"coffeebuddy/test/devstack"
)

// The flags of this package; tests read them with setting.
const (
	functionFlag = "function"
	queueFlag    = "queue"
	figuresFlag  = "figures"
	subnetFlag   = "subnet"
)

func TestMain(m *testing.M) {
	flag.String(functionFlag, "", "test this `binary` of the function instead of building one")
	flag.String(queueFlag, "", "use this `binary` of queue-proxy instead of building one")
	flag.String(figuresFlag, "", "append what is measured to this `file`, too")
	flag.String(subnetFlag, "", "the first three numbers of the pods' addresses, such as 10.245.7; empty: a free one")
	flag.Parse()
	if why := unfit(); why != "" {
		fmt.Printf("skipped: %s\n", why)
		os.Exit(0)
	}
	code, err := 0, error(nil)
	if inOwnMounts() {
		code, err = run(m)
	} else {
		code, err = again()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// unfit returns why nothing can be tested here, if so.
func unfit() string {
	if testing.Short() {
		return "it takes real servers, and minutes: leave out -short"
	}
	const why = "pods get network namespaces of their own, which needs "
	if !mayMakeNetworks() {
		return why + "Linux and root (CAP_NET_ADMIN and CAP_SYS_ADMIN)"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return why + "the command ip (Debian: apt-get install iproute2)"
	}
	return ""
}

// mayMakeNetworks reports whether this process has root's capabilities that it takes: in a container, root may lack them.
func mayMakeNetworks() bool {
	const needed = 1<<12 | 1<<21 // CAP_NET_ADMIN, CAP_SYS_ADMIN
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(status), "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	capabilities, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return err == nil && capabilities&needed == needed
}

// run builds what is missing, makes the network, and runs the tests in a temporary folder; network and folder go on Ctrl-C, too. The
// processes that tests start end with this one.
func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "coffeebuddy-queueproxy-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := errors.Join(
		os.Setenv("TMPDIR", dir), // of t.TempDir
		hideNamespaces(),
		os.Setenv("SYSTEM_NAMESPACE", "knative-serving"), // Knative's code wants to know where it runs
		defaultTo("test.parallel", "4"),                  // tests wait for real time, not for processors
		defaultTo(figuresFlag, filepath.Join(dir, "notes")),
		build(ctx, dir),
	); err != nil {
		return 0, err
	}
	if err := makeNetwork(ctx); err != nil {
		return 0, errors.Join(err, removeNetwork(os.Getpid()))
	}
	defer func() { err = errors.Join(err, removeNetwork(os.Getpid())) }()
	done := make(chan int, 1)
	go func() { done <- m.Run() }()
	select {
	case code := <-done:
		return code, printFigures()
	case <-ctx.Done():
		return 1, errors.New("interrupted")
	}
}

// build builds the servers that are not in the user's cache yet, and the function and queue-proxy unless there are some to use.
func build(ctx context.Context, dir string) error {
	if err := devstack.Build(ctx, os.Stderr); err != nil {
		return err
	}
	for _, program := range []struct{ name, flag, folder, path string }{
		{"the function", functionFlag, "../../..", "./function"},          // in the root module
		{"queue-proxy", queueFlag, "..", "knative.dev/serving/cmd/queue"}, // in this one, whose go.mod says which version
	} {
		if setting[string](program.flag) != "" {
			continue
		}
		binary := filepath.Join(dir, program.flag)
		command := exec.CommandContext(ctx, "go", "build", "-C", program.folder, "-o", binary, program.path)
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", program.name, err, output)
		}
		if err := flag.Set(program.flag, binary); err != nil {
			return err
		}
	}
	return nil
}

// setting returns the value of a flag of this package.
func setting[T any](name string) T {
	return flag.Lookup(name).Value.(flag.Getter).Get().(T)
}

// defaultTo sets a flag that was not given.
func defaultTo(name, value string) error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return nil
	}
	return flag.Set(name, value)
}
