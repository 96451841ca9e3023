//go:build linux

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/sim/testworld/network"
)

// idleLimit is how many files the child of TestIdleConnections may open.
const idleLimit = 400

// idleChild is what the child is told in DECKLE_IDLE_CHILD.
type idleChild struct {
	Brokers         []string
	HTTP, Raft, Dir string
}

// TestIdleChild is the node of TestIdleConnections, in a process of its own: the limit of open files is a process's.
func TestIdleChild(t *testing.T) {
	text := os.Getenv("DECKLE_IDLE_CHILD")
	if text == "" {
		t.Skip("TestIdleConnections runs it")
	}
	var c idleChild
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: idleLimit, Max: idleLimit}); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{
		Node: "a", DataDir: filepath.Join(c.Dir, "a"), HTTP: config.HTTP{Listen: c.HTTP},
		Cluster: config.Cluster{Nodes: []config.Node{{Name: "a", Address: c.Raft}}},
		Kafka:   config.Kafka{Brokers: c.Brokers, Keyed: "yes"},
		Delta:   &config.Delta{Path: filepath.Join(c.Dir, "delta")},
		Flush:   config.Flush{Interval: 200 * time.Millisecond},
	}
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	if err := Run(ctx, cfg, Deps{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}); err != nil {
		t.Fatal(err)
	}
}

// Ten thousand idle connections to a node that may open 400 files: 400 alone once ended one. It goes on to read, to
// flush and to answer a client of another address, and is still there at the end. Those that come from everywhere hold
// up other clients of HTTP for some seconds at most, and nothing else.
func TestIdleConnections(t *testing.T) {
	b := nodetest.NewBroker(t, 2)
	var held [2]net.Listener // both are chosen before one is given back, or they may be the same
	for i := range held {
		ln, err := network.Listen()
		if err != nil {
			t.Fatal(err)
		}
		held[i] = ln
	}
	for _, ln := range held {
		_ = ln.Close()
	}
	c := idleChild{Brokers: b.ListenAddrs(), HTTP: held[0].Addr().String(), Raft: held[1].Addr().String(),
		Dir: t.TempDir()}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.Command(os.Args[0], "-test.run=^TestIdleChild$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), "DECKLE_IDLE_CHILD="+string(text))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	from := func(address string) net.Dialer {
		return net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 5 * time.Second}
	}
	other := from("127.0.0.2")
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: other.DialContext}}
	var st struct {
		Ready  bool `json:"ready"`
		Totals struct {
			Applied int64 `json:"applied_events"`
		} `json:"totals"`
		Shards []struct {
			Acked map[string]uint64 `json:"acked_epochs"`
		} `json:"shards"`
	}
	status := func() error {
		resp, err := client.Get("http://" + c.HTTP + "/api/v1/status")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return json.NewDecoder(resp.Body).Decode(&st)
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		nodetest.Until(t, what, func() bool {
			select {
			case err := <-ended:
				t.Fatalf("%s: the node has ended: %v\n%s", what, err, log.String())
			case <-time.After(150 * time.Millisecond): // the rate of a client
			}
			return ok()
		})
	}
	until("the node is ready", func() bool { return status() == nil && st.Ready })
	n := 0
	flows := func(what string) {
		t.Helper()
		for range 5 {
			b.Produce(nodetest.Record(int32(n%2), fmt.Sprint("s", n), n))
			n++
		}
		begin := acked(st.Shards)
		until(what, func() bool { return status() == nil && st.Totals.Applied == int64(n) && acked(st.Shards) > begin })
	}
	flows("records are read and flushed before")

	// The test's own limit, less what it needs itself.
	var own syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	flood := func(connections int, address func(i int) string) {
		t.Helper()
		most := min(connections, int(own.Cur)/2)
		for i := range connections {
			if len(idle) >= most {
				_ = idle[0].Close()
				idle = idle[1:]
			}
			d := from(address(i))
			conn, err := d.DialContext(context.Background(), "tcp", c.HTTP)
			if err != nil {
				t.Fatalf("connection %d: %v\n%s", i, err, log.String())
			}
			idle = append(idle, conn)
			if i%500 == 0 {
				if files := openFilesOf(t, cmd.Process.Pid); files > idleLimit-50 {
					t.Fatalf("after %d connections the node has %d of %d files open", i, files, idleLimit)
				}
				if err := status(); err != nil && address(0) == address(1) {
					t.Errorf("after %d idle connections of another address: %v", i, err)
				}
			}
		}
	}
	flood(10_000, func(int) string { return "127.0.0.1" })
	flows("records are read and flushed beside 10,000 idle connections")
	flood(500, func(i int) string { return fmt.Sprintf("127.0.1.%d", 1+i%200) })
	flows("records are read and flushed beside idle connections of 200 addresses")
	if files := openFilesOf(t, cmd.Process.Pid); files > idleLimit-50 {
		t.Errorf("the node has %d of %d files open", files, idleLimit)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
}

func acked(shards []struct {
	Acked map[string]uint64 `json:"acked_epochs"`
}) (sum uint64) {
	for _, s := range shards {
		for _, epoch := range s.Acked {
			sum += epoch
		}
	}
	return sum
}

func openFilesOf(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
