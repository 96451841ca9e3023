package services

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Detach makes the processes that are started from now on outlive this program, which `make up` needs.
var Detach bool

// Process is a program that was started here. It can be killed, and started again with the same arguments.
type Process struct {
	Name string
	Log  string // path of what it prints

	args []string
	dir  string
	env  []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended
}

// NewProcess describes a process. dir is its working directory, which also holds its log.
func NewProcess(name, dir string, env []string, args ...string) *Process {
	return &Process{Name: name, Log: filepath.Join(dir, name+".log"), args: args, dir: dir, env: env}
}

// Start starts the process and appends its output to the log.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("services: %s runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes(Detach)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("services: starting %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
	return nil
}

// PID returns the process id, or 0 when the process does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Done returns a channel that is closed when the process has ended; nil when it was never started.
func (p *Process) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Err returns how the process ended. It is valid after Done is closed.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Signal sends a signal to the process.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("services: %s does not run", p.Name)
	}
	return p.cmd.Process.Signal(sig)
}

// Kill ends the process with SIGKILL and waits for it.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL, 0) }

// Stop asks the process to end, waits up to timeout, and then kills it.
func (p *Process) Stop(timeout time.Duration) error { return p.end(syscall.SIGTERM, timeout) }

func (p *Process) end(sig syscall.Signal, timeout time.Duration) error {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("services: %s: %w", p.Name, err)
	}
	if sig == syscall.SIGKILL {
		<-done
		return nil
	}
	select {
	case <-done:
		return nil
	case <-time.After(timeout):
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("services: %s: %w", p.Name, err)
	}
	<-done
	return fmt.Errorf("services: %s did not end within %s and was killed", p.Name, timeout)
}

// WaitPort waits until addr accepts connections, or until the process has ended.
func (p *Process) WaitPort(ctx context.Context, addr string) error {
	return p.wait(ctx, "port "+addr, func(ctx context.Context) bool {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
}

func (p *Process) wait(ctx context.Context, what string, ready func(context.Context) bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ready(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("services: %s: waiting for %s: %w; its log ends with:\n%s",
				p.Name, what, ctx.Err(), p.Tail(2000))
		case <-p.Done():
			return fmt.Errorf("services: %s ended (%w); its log ends with:\n%s", p.Name, p.Err(), p.Tail(2000))
		case <-tick.C:
		}
	}
}

// Tail returns the last n bytes of the log.
func (p *Process) Tail(n int) string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-n):])
}

// The ports are below those that the system assigns by itself, to outgoing connections and to programs that listen on
// port 0. Such a port might be taken before the process that it is meant for has started.
const firstPort, lastPort = 15_000, 32_767

var ports struct {
	mu    sync.Mutex
	given map[int]bool
}

// FreePort returns a loopback port on which nothing listens, and which it has not returned before.
func FreePort() (int, error) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	var err error
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if ports.given[port] {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
			continue
		}
		if ports.given == nil {
			ports.given = map[int]bool{}
		}
		ports.given[port] = true
		return port, l.Close()
	}
	return 0, fmt.Errorf("services: no free port between %d and %d: %w", firstPort, lastPort, err)
}
