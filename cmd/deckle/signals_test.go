package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// asCommand in the environment makes the test binary the command.
const asCommand = "DECKLE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is deckle as a process of its own, started as a shell starts it in the background: with SIGINT ignored.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of standard error
	ended chan error
}

const patience = time.Minute

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, lines: make(chan string, 1<<12), ended: make(chan error, 1)}
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", `trap "" INT; exec "$0" "$@"`, self}, args...)...)
	p.cmd.Env = append(os.Environ(), asCommand+"=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = io.Discard
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			select {
			case p.lines <- sc.Text():
			default: // nobody reads so far
			}
		}
		close(p.lines)
		p.ended <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		for range p.lines {
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// await waits for a line of standard error that contains text.
func (p *process) await(text string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("ended before it said %q", text)
			}
			p.t.Log(line)
			if strings.Contains(line, text) {
				return
			}
		case <-deadline:
			p.t.Fatalf("did not say %q", text)
		}
	}
}

// twice sends two signals that the process finds at once when it goes on: it cannot have ended in between.
func (p *process) twice() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(p.cmd.Process.Pid, &ws, syscall.WUNTRACED, nil); err == syscall.EINTR {
			continue
		} else if err != nil || !ws.Stopped() {
			p.t.Fatalf("not stopped: %v, %v", ws, err)
		}
		break
	}
	p.signal(syscall.SIGINT)
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT)
}

// wantEnd waits for the end and its exit code.
func (p *process) wantEnd(codes ...int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("a second signal did not end it")
	}
	for _, c := range codes {
		if p.cmd.ProcessState.ExitCode() == c {
			return
		}
	}
	p.t.Errorf("%v, want exit code %v", p.cmd.ProcessState, codes)
}

// The drain would take an hour. The second SIGINT comes when the first has been taken for certain.
func TestSecondInterruptEndsTheDemo(t *testing.T) {
	p := startProcess(t, "demo", "--nodes", "1", "--rate", "50", "--flush-interval", "1h", "--drain", "1h",
		"--dir", t.TempDir(), "--http", "127.0.0.1:0")
	p.await("producing")
	p.signal(syscall.SIGINT)
	p.await("Draining")
	p.signal(syscall.SIGINT)
	p.wantEnd(exitSignal + int(syscall.SIGINT))
}

func TestTwoSignalsEndEveryCommandAtOnce(t *testing.T) {
	const sum = exitSignal
	either := []int{sum + int(syscall.SIGINT), sum + int(syscall.SIGTERM)} // the kernel chooses the order
	t.Run("demo", func(t *testing.T) {
		p := startProcess(t, "demo", "--nodes", "1", "--rate", "50", "--dir", t.TempDir(), "--http", "127.0.0.1:0")
		p.await("Page:")
		p.twice()
		p.wantEnd(either...)
	})
	t.Run("run", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		raft := ln.Addr().String()
		_ = ln.Close()
		dir := t.TempDir()
		config := filepath.Join(dir, "deckle.yaml")
		write := func(more string) {
			if err := os.WriteFile(config, fmt.Appendf(nil, `
node: a
data_dir: %s/data
cluster: {nodes: [{name: a, address: %q}]}
kafka: {brokers: ["127.0.0.1:1"]}
delta: {path: %s/delta}
http: {listen: "127.0.0.1:0"}
%s`, dir, raft, dir, more), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("")
		p := startProcess(t, "run", "--config", config)
		p.await("node runs")
		p.signal(syscall.SIGHUP)
		p.await("looking at the files") // and it goes on
		write("log: {level: warn}\nflush: {interval: 20s}\n")
		p.signal(syscall.SIGHUP)
		p.await(`"key":"log.level","from":"info","to":"warn"`)
		p.await("flush.interval is 20s in the file, the node runs with 10s")
		p.twice()
		p.wantEnd(either...)
	})
	t.Run("sim", func(t *testing.T) {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "web_clicks"))
		if err != nil {
			t.Fatal(err)
		}
		defer fake.Close()
		producing := make(chan struct{}, 1)
		fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			fake.KeepControl()
			select {
			case producing <- struct{}{}:
			default:
			}
			return nil, nil, false
		})
		p := startProcess(t, "sim", "--brokers", fake.ListenAddrs()[0], "--rate", "50")
		select {
		case <-producing:
		case <-time.After(patience):
			t.Fatal("nothing was produced")
		}
		p.twice()
		p.wantEnd(either...)
	})
}
