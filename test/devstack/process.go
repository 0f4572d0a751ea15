package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Command says how to run a child process.
type Command struct {
	Name string   // what errors call it
	Path string   // the executable
	Args []string // without the name of the executable
	Env  []string // its whole environment, as NAME=value
	Dir  string   // its working directory; empty: this process' own

	// Log is a file that the output is appended to. Empty: output goes where this process' own goes.
	Log string
	// Ready is polled until it returns nil; Start returns then. Nil: ready as soon as it runs.
	Ready func(context.Context) error
	// ReadyTimeout is how long Ready may take. Zero: 30 s.
	ReadyTimeout time.Duration
	// StopTimeout is how long the process may take to end by itself after SIGTERM. Zero: 10 s.
	StopTimeout time.Duration
	// Family says that the process starts others (go run, go build, a shell): signals go to all of them, and all of them are
	// killed when it ends or when this process does.
	Family bool

	cleanup    func() error        // of what was made for the process; may be nil, and is called once or more
	keepLog    bool                // of a failed start, which would else go with its folder
	owner      *syscall.Credential // whom to run as; nil: as this process
	stopSignal syscall.Signal      // what Stop sends; 0: SIGTERM
}

// Process is a child process that can be stopped, frozen, and started again. It does not outlive this process, even
// one that is killed. Its methods may be called from any goroutine.
type Process struct {
	command Command

	mu  sync.Mutex
	run *run // nil before the first Start
}

// errNotRunning is what a signal to a process that has ended fails with.
var errNotRunning = errors.New("it is not running")

// StartProcess starts a process and waits until it is ready. It is closed when ctx ends.
func StartProcess(ctx context.Context, command Command) (*Process, error) {
	p := &Process{command: command}
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = p.Close() }) // who wants to know the error calls Close
	return p, nil
}

// Close kills the process and deletes its data and log, if they were made with it. It may be called again.
func (p *Process) Close() error {
	p.Kill()
	if p.command.cleanup == nil {
		return nil
	}
	return p.command.cleanup()
}

// Start starts the process and waits until it is ready. One that does not get ready is killed. ctx bounds the start alone.
func (p *Process) Start(ctx context.Context) error {
	r, err := p.launch()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.command.Name, err)
	}
	if p.command.Ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.command.ReadyTimeout, 30*time.Second))
	defer cancel()
	err = poll(r.while(ctx), p.command.Ready)
	if err == nil && !r.running() {
		err = errNotRunning // it was another server that answered
	}
	if err != nil {
		p.Kill()
		return fmt.Errorf("wait until %s is ready: %w%s", p.command.Name, err, failedLog(p.command))
	}
	return nil
}

// launch starts the process unless it runs already.
func (p *Process) launch() (*run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run.running() {
		return nil, errors.New("it is running already")
	}
	r, err := launch(p.command)
	if err != nil {
		return nil, err
	}
	p.run = r
	return r, nil
}

// Signal sends a signal to the process, and to those it started if it has a family.
func (p *Process) Signal(signal syscall.Signal) error {
	r := p.current()
	if !r.running() {
		return fmt.Errorf("signal %s: %w", p.command.Name, errNotRunning)
	}
	if err := r.signal(signal); err != nil {
		return fmt.Errorf("signal %s: %w", p.command.Name, err)
	}
	return nil
}

// Stop asks the process to end, waits for it, and kills it when it does not end in time. One that is frozen is thawed to be
// able to. Stopping what does not run does nothing.
func (p *Process) Stop(ctx context.Context) error {
	r := p.current()
	if !r.running() {
		return nil
	}
	_ = r.signal(cmp.Or(p.command.stopSignal, syscall.SIGTERM)) // one that has just ended cannot be signalled
	_ = r.signal(syscall.SIGCONT)
	patience := time.NewTimer(cmp.Or(p.command.StopTimeout, 10*time.Second))
	defer patience.Stop()
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("stop %s: %w", p.command.Name, ctx.Err())
	case <-patience.C:
		p.Kill()
		return fmt.Errorf("stop %s: it took too long and was killed", p.command.Name)
	}
}

// Kill ends the process at once and waits until it is gone. Killing what does not run does nothing.
func (p *Process) Kill() {
	r := p.current()
	if !r.running() {
		return
	}
	_ = r.signal(syscall.SIGKILL) // one that has just ended cannot be signalled
	<-r.ended
}

// Restart stops the process and starts it again, with the same command.
func (p *Process) Restart(ctx context.Context) error {
	if err := p.Stop(ctx); err != nil {
		return err
	}
	return p.Start(ctx)
}

// Freeze suspends the process: it keeps its connections and its port, and answers nobody. It is frozen when this returns.
func (p *Process) Freeze(ctx context.Context) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := poll(ctx, p.frozen); err != nil {
		return fmt.Errorf("freeze %s: %w", p.command.Name, err)
	}
	return nil
}

func (p *Process) frozen(context.Context) error {
	r := p.current()
	if !r.running() {
		return errNotRunning
	}
	return suspended(r.cmd.Process.Pid)
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Running reports whether the process is there, frozen or not.
func (p *Process) Running() bool { return p.current().running() }

// PID returns the number of the process, or 0 when it was never started.
func (p *Process) PID() int {
	r := p.current()
	if r == nil {
		return 0
	}
	return r.cmd.Process.Pid
}

// Ended is closed when the process has ended. It is of the life the process has now: ask again after a new Start.
func (p *Process) Ended() <-chan struct{} { return p.current().ended }

// ExitCode returns the exit code of a process that has ended, as a shell would: 128 and the signal for one that a signal ended.
func (p *Process) ExitCode() int {
	state := p.current().cmd.ProcessState
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// LogFile returns the file with the output of the process.
func (p *Process) LogFile() string { return p.command.Log }

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// failedLog says where the log of a process that failed is, as the end of an error's text.
func failedLog(command Command) string {
	if !command.keepLog {
		return ""
	}
	dir, err := cacheDir("failed")
	if err != nil {
		return ""
	}
	kept := filepath.Join(dir, command.Name+".log")
	if err := os.Rename(command.Log, kept); err != nil {
		return ""
	}
	return "; its log: " + kept
}

// runToEnd runs a command that ends by itself, and fails if it does not succeed.
func runToEnd(ctx context.Context, command Command) error {
	p, err := StartProcess(ctx, command)
	if err != nil {
		return err
	}
	<-p.Ended()
	if code := p.ExitCode(); code != 0 {
		return fmt.Errorf("run %s: exit code %d%s", command.Name, code, failedLog(command))
	}
	return nil
}
