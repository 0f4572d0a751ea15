// Command devstack starts a real Vault, Ory Hydra and Prometheus for the function on this machine, without containers, and leaves
// nothing behind.
//
//	devstack [-address A] [-C folder] [-at-once] run -- command…   start them, and the command with their addresses in its environment
//	devstack [-address A] platform                                 start them alone, until Ctrl-C
//	devstack build                                                 only build what is missing
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"coffeebuddy/test/devstack"
)

const usage = `usage: devstack [-address A] [-C folder] [-at-once] run -- command…   start the platform, then the command with its addresses in the environment
       devstack [-address A] platform                                 start the platform alone, until Ctrl-C
       devstack build                                                 only build what is missing
`

func main() {
	code, err := run(os.Args[1:], os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "devstack:", err)
	}
	os.Exit(code)
}

// run does what args say and returns the exit code: the command's own, 2 for a wrong call, 1 for any other error. Everything it has to say
// goes to out: standard output is the command's.
func run(args []string, out io.Writer) (int, error) {
	flags := flag.NewFlagSet("devstack", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { fmt.Fprint(out, usage); flags.PrintDefaults() }
	host := flags.String("address", "127.0.0.1", "`address` that Vault and Hydra listen on")
	dir := flags.String("C", ".", "`folder` to change to before anything else")
	atOnce := flags.Bool("at-once", false, "start the command at once, while the platform is still being built and started")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0, nil
		}
		return 2, nil // flags has said what is wrong
	}
	if err := os.Chdir(*dir); err != nil {
		return 1, err
	}
	if err := endWithGoRun(); err != nil {
		return 1, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	options := devstack.Options{Host: *host, Ports: devstack.UsualPorts(), Progress: out}
	if port, err := strconv.Atoi(os.Getenv("PORT")); err == nil {
		options.Ports.Function = port
	}

	switch command := flags.Args(); {
	case flags.NArg() == 1 && command[0] == "build":
		return outcome(ctx, devstack.Build(ctx, out))
	case flags.NArg() == 1 && command[0] == "platform":
		return outcome(ctx, platform(ctx, options))
	case flags.NArg() > 2 && command[0] == "run" && command[1] == "--":
		return runCommand(ctx, command[2:], options, *atOnce)
	default:
		flags.Usage()
		return 2, nil
	}
}

// outcome returns the exit code for err. What failed because of a signal needs no other words.
func outcome(ctx context.Context, err error) (int, error) {
	if err == nil {
		return 0, nil
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 130, errors.New("interrupted")
	}
	return 1, err
}

// platform runs the stack alone until ctx ends.
func platform(ctx context.Context, options devstack.Options) error {
	stack, err := devstack.Start(ctx, options)
	if err != nil {
		return err
	}
	summarize(options.Progress, stack)
	fmt.Fprintf(options.Progress, "\nIn another terminal, at the top of the repository:\n\n    . %s && go run ./function\n\nCtrl-C stops the platform.\n", stack.EnvFile)
	watch(ctx, options.Progress, stack)
	<-ctx.Done()
	fmt.Fprintln(options.Progress, "\nstopping")
	return stack.Close()
}
