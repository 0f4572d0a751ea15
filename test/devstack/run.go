package devstack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// run is one life of a process.
type run struct {
	cmd   *exec.Cmd
	guard *os.File      // see guarded; nil without a family
	ended chan struct{} // closed when the process has ended and was waited for
}

// launch starts a process.
func launch(command Command) (*run, error) {
	cmd := exec.Command(command.Path, command.Args...)
	cmd.Env, cmd.Dir = command.Env, command.Dir
	cmd.SysProcAttr = childAttributes()
	cmd.SysProcAttr.Credential = command.owner
	if command.Log == "" {
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	} else {
		log, err := os.OpenFile(command.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer log.Close() // the child has its own copy by then
		cmd.Stdout, cmd.Stderr = log, log
	}
	r := &run{cmd: cmd, ended: make(chan struct{})}
	if command.Family {
		guard, err := guarded(cmd)
		if err != nil {
			return nil, err
		}
		defer cmd.ExtraFiles[0].Close()
		r.guard = guard
	}
	started := make(chan error)
	go r.live(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return r, nil
}

// live starts the process and waits for its end, on one thread: Linux kills a child when the thread that started it ends,
// and this one lasts as long as the child.
func (r *run) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := r.cmd.Start()
	started <- err
	if err == nil {
		_ = r.cmd.Wait() // how it ended is in ProcessState
	}
	if r.guard != nil {
		r.guard.Close()
	}
	close(r.ended)
}

// guarded makes cmd run beside a shell that kills its process group once the returned pipe is closed, be it by this process'
// death. The attributes of a child reach no further than the child itself, so a family needs this.
func guarded(cmd *exec.Cmd) (*os.File, error) {
	const script = `(trap '' HUP INT TERM; read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 & exec 3<&- "$@"`
	path, err := exec.LookPath(cmd.Path)
	if err != nil {
		return nil, err
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		return nil, err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Args = append([]string{"sh", "-c", script, "sh", path}, cmd.Args[1:]...)
	cmd.Path = shell
	cmd.ExtraFiles = []*os.File{theirs}
	return ours, nil
}

func (r *run) running() bool {
	if r == nil {
		return false
	}
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

func (r *run) signal(signal syscall.Signal) error {
	if r.guard != nil {
		return syscall.Kill(-r.cmd.Process.Pid, signal)
	}
	return r.cmd.Process.Signal(signal)
}

// while returns a context that ends with ctx, or when the process does.
func (r *run) while(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-r.ended:
			cancel(fmt.Errorf("it ended (%s)", r.cmd.ProcessState))
		case <-ctx.Done():
			cancel(ctx.Err())
		}
	}()
	return ctx
}
