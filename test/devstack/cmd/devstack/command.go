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

// runCommand runs the stack and the command beside it, and returns the command's exit code. A signal goes to the command, and
// the stack stays until that has ended, since it may need it to finish its work.
func runCommand(ctx context.Context, command []string, options devstack.Options) (int, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return 1, err
	}
	life, end := context.WithCancel(context.Background())
	defer end()
	stopEnding := context.AfterFunc(ctx, end)
	stack, err := devstack.Start(life, options)
	if err != nil {
		return outcome(ctx, err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if !stopEnding() { // a signal came during the start
		return outcome(ctx, errors.Join(context.Canceled, stack.Close()))
	}
	summarize(options.Progress, stack)
	fmt.Fprintf(options.Progress, "\nstarting %s\n", strings.Join(command, " "))
	watch(life, options.Progress, stack)
	code, err := attend(life, path, command, stack, signals, options.Progress)
	end()
	if closing := stack.Close(); err == nil {
		err = closing
	}
	return code, err
}

// attend runs the command to its end and passes the first signal on to it. Ctrl-C after that kills it; another SIGTERM does not,
// since the end of go run may bring several.
func attend(ctx context.Context, path string, command []string, stack *devstack.Stack, signals <-chan os.Signal, out io.Writer) (int, error) {
	process, err := devstack.StartProcess(ctx, devstack.Command{
		Name: command[0], Path: path, Args: command[1:],
		Env: environment(os.Environ(), stack), Family: true,
	})
	if err != nil {
		return 1, err
	}
	go announce(ctx, process, fmt.Sprintf("http://127.0.0.1:%d", stack.FunctionPort), out)
	select {
	case <-process.Ended():
		return process.ExitCode(), nil
	case received := <-signals:
		fmt.Fprintf(out, "\nwaiting for %s to end; Ctrl-C kills it\n", strings.Join(command, " "))
		_ = process.Signal(passOn(path, received)) // it may have just ended
	}
	for {
		select {
		case <-process.Ended():
			return process.ExitCode(), nil
		case received := <-signals:
			if received == os.Interrupt {
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

// announce says when the command first answers that it is ready, unless it ends before.
func announce(ctx context.Context, process *devstack.Process, url string, out io.Writer) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-process.Ended():
			return
		case <-tick.C:
		}
		if response, err := client.Get(url + "/health/ready"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				fmt.Fprintf(out, "\nready: %s/health/ready answers 200; Ctrl-C stops it and the platform\n", url)
				return
			}
		}
	}
}
