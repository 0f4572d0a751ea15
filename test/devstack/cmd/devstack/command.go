package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"coffeebuddy/test/devstack"
)

// runCommand runs the stack and the command beside it, and returns the command's exit code. The command is started when the stack is up, or at
// once. A signal goes to the command, and the stack stays until that has ended, since it may need it to finish its work.
func runCommand(ctx context.Context, command []string, options devstack.Options, atOnce bool) (int, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return 1, err
	}
	life, end := context.WithCancel(context.Background())
	defer end()
	stopEnding := context.AfterFunc(ctx, end)
	stack, err := devstack.Prepare(life, options)
	if err != nil {
		return outcome(ctx, err)
	}
	up := make(chan error, 1)
	go func() { up <- bringUp(life, stack, options.Progress) }()
	if !atOnce {
		if err := <-up; err != nil {
			return outcome(ctx, errors.Join(err, stack.Close()))
		}
		up <- nil
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if !stopEnding() { // a signal came during the start
		<-up
		return outcome(ctx, errors.Join(context.Canceled, stack.Close()))
	}
	fmt.Fprintf(options.Progress, "\nstarting %s\n", strings.Join(command, " "))
	code, err := attend(life, path, command, stack, up, signals, options.Progress)
	end()
	return code, errors.Join(err, stack.Close())
}

// bringUp starts the servers of the stack and says what runs where.
func bringUp(ctx context.Context, stack *devstack.Stack, out io.Writer) error {
	if err := stack.Start(ctx); err != nil {
		return err
	}
	summarize(out, stack)
	watch(ctx, out, stack)
	return nil
}

// attend runs the command to its end and passes the first signal on to it. Ctrl-C after that kills it; another SIGTERM does not,
// since the end of go run may bring several. A stack that does not come up ends the command, too. attend returns when both have ended.
func attend(ctx context.Context, path string, command []string, stack *devstack.Stack, up <-chan error, signals <-chan os.Signal, out io.Writer) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	process, err := devstack.StartProcess(ctx, devstack.Command{
		Name: command[0], Path: path, Args: command[1:],
		Env: environment(os.Environ(), stack), Family: true,
	})
	if err != nil {
		return 1, err
	}
	go announce(ctx, process, fmt.Sprintf("http://127.0.0.1:%d", stack.FunctionPort), out)
	name := strings.Join(command, " ")
	for told := false; ; {
		select {
		case <-process.Ended():
			return process.ExitCode(), nil
		case err := <-up:
			if up = nil; err != nil {
				_ = process.Signal(passOn(path, syscall.SIGTERM)) // it may have just ended
				<-process.Ended()
				return 1, err
			}
		case received := <-signals:
			switch {
			case !told:
				told = true
				fmt.Fprintf(out, "\nwaiting for %s to end; Ctrl-C kills it\n", name)
				_ = process.Signal(passOn(path, received)) // it may have just ended
			case received == os.Interrupt:
				process.Kill()
			}
		}
	}
}

// passOn returns the signal to send for one that was received. SIGTERM kills go run before the program it runs has ended, while it
// waits for that after an interrupt; the function takes either for the same.
func passOn(path string, received os.Signal) syscall.Signal {
	if received == os.Interrupt || filepath.Base(path) == "go" {
		return syscall.SIGINT
	}
	return syscall.SIGTERM
}

// environment returns env with the stack's variables, and without others that would lead the function elsewhere.
func environment(env []string, stack *devstack.Stack) []string {
	env = slices.DeleteFunc(env, func(variable string) bool {
		return strings.HasPrefix(variable, "VAULT_") || strings.HasPrefix(variable, "ORY_BASE_URL=") || strings.HasPrefix(variable, "PORT=")
	})
	return append(env, stack.Env()...)
}

// announce says when the command first answers that it is live, and when it is ready, unless it ends before.
func announce(ctx context.Context, process *devstack.Process, url string, out io.Writer) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	answers := func(path string) bool {
		response, err := client.Get(url + path)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for live := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-process.Ended():
			return
		case <-tick.C:
		}
		switch {
		case answers("/health/ready"):
			fmt.Fprintf(out, "\nready: %s/health/ready answers 200; Ctrl-C stops it and the platform\n", url)
			return
		case !live && answers("/health/live"):
			live = true
			fmt.Fprintf(out, `
live, and not ready until Vault and Hydra are up. Meanwhile, in another terminal:

    curl -i %[1]s/health/live    # 200
    curl -i %[1]s/health/ready   # 503, and why; it turns 200 by itself

`, url)
		}
	}
}
