//go:build linux

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"deckle/integration/services"
	"deckle/node/nodetest"
)

// filesLimit is how many files the node of TestHTTPAttacks may open.
const filesLimit = 400

// TestHTTPAttacks holds 10,000 idle connections to the HTTP port of a real binary that may open 400 files, and among
// them clients that send a header or a body byte by byte, and some that read no answer. It goes on to read and to
// flush, answers a client of another address, and ends those that get nowhere.
func TestHTTPAttacks(t *testing.T) {
	if os.Getenv("DECKLE_ATTACKS") == "" {
		t.Skip("make attacks runs it")
	}
	ctx, dir := t.Context(), folder(t)
	binary, err := services.BuildDeckle(ctx, "..", dir)
	must(t, err)
	broker := nodetest.NewBroker(t, 2)
	address := func() string {
		port, err := services.FreePort()
		must(t, err)
		return fmt.Sprint("127.0.0.1:", port)
	}
	at, file := address(), filepath.Join(dir, "deckle.yaml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `
node: a
data_dir: %[1]s/data
http: {listen: "%[2]s"}
cluster: {nodes: [{name: a, address: "%[3]s"}]}
kafka: {brokers: ["%[4]s"], topic: %[5]s, keyed: "yes"}
delta: {path: %[1]s/lake}
flush: {interval: 200ms}
`, dir, at, address(), broker.ListenAddrs()[0], nodetest.Topic), 0o600))
	node := services.NewProcess("a", dir, nil, "sh", "-c", `ulimit -n "$2" && exec "$0" run --config "$1"`, binary,
		file, fmt.Sprint(filesLimit))
	must(t, node.Start())
	t.Cleanup(func() { must(t, node.Kill()) })

	from := func(ip string) *net.Dialer {
		return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 5 * time.Second}
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: from("127.0.0.2").DialContext}}
	var st struct {
		Ready  bool
		Totals struct {
			Applied int64 `json:"applied_events"`
		}
		Shards []struct {
			Acked map[string]uint64 `json:"acked_epochs"`
		}
	}
	ask := func() error {
		resp, err := client.Get("http://" + at + "/api/v1/status")
		if err != nil {
			return err
		}
		return errors.Join(json.NewDecoder(resp.Body).Decode(&st), resp.Body.Close())
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		nodetest.Until(t, what, func() bool {
			select {
			case <-node.Done():
				t.Fatalf("%s: the node has ended: %v\n%s", what, node.Err(), node.Tail(3000))
			case <-time.After(150 * time.Millisecond): // the rate of a client
			}
			return ok()
		})
	}
	n := 0
	flows := func(when string) {
		t.Helper()
		events := func() (epoch uint64) {
			for _, s := range st.Shards {
				epoch += s.Acked["events"]
			}
			return epoch
		}
		before := events()
		for range 5 {
			broker.Produce(nodetest.Record(int32(n%2), fmt.Sprint("s", n), n))
			n++
		}
		until("records are read and flushed "+when, func() bool {
			return ask() == nil && st.Totals.Applied == int64(n) && events() > before
		})
	}
	until("the node is ready", func() bool { return ask() == nil && st.Ready })
	flows("before")

	attack, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	const header, body = "GET /api/v1/status HTTP/1.1\r\nX: ", "POST /api/v1/partitions/resume HTTP/1.1\r\n" +
		"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
	var slow, began atomic.Int64 // clients that send slowly, and have not been ended; and all of them
	for i := range 20 {
		for kind, begin := range []string{header, body} {
			all.Go(func() {
				conn, err := from(fmt.Sprintf("127.0.%d.%d", 2+kind, 1+i)).DialContext(attack, "tcp", at)
				if err != nil {
					return // the node has as many as it takes
				}
				defer func() { _ = conn.Close() }()
				began.Add(1)
				slow.Add(1)
				_, err = io.WriteString(conn, begin)
				for err == nil {
					if _, err = conn.Write([]byte("x")); err == nil {
						_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
						_, err = conn.Read(make([]byte, 4096))
					}
					if errors.Is(err, os.ErrDeadlineExceeded) {
						err = attack.Err()
					}
				}
				if attack.Err() == nil {
					slow.Add(-1)
				}
			})
		}
		all.Go(func() { // asks again and again, and never reads
			conn, err := from(fmt.Sprint("127.0.4.", 1+i)).DialContext(attack, "tcp", at)
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			stop := context.AfterFunc(attack, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			defer stop()
			for err == nil {
				_, err = io.WriteString(conn, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 100))
			}
		})
	}
	files := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", node.PID()))
		must(t, err)
		return len(entries)
	}
	var own syscall.Rlimit // of this process, less what it needs itself
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own))
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	for i := range 10_000 {
		if len(idle) > int(own.Cur)/2 {
			_ = idle[0].Close()
			idle = idle[1:]
		}
		conn, err := from("127.0.0.3").DialContext(ctx, "tcp", at)
		if err != nil {
			t.Fatalf("connection %d: %v\n%s", i, err, node.Tail(3000))
		}
		if idle = append(idle, conn); i%2000 == 0 {
			flows(fmt.Sprintf("beside %d idle connections", i))
			if open := files(); open > filesLimit-50 {
				t.Fatalf("beside %d idle connections the node has %d of %d files open", i, open, filesLimit)
			}
		}
	}
	flows("beside 10,000 idle connections")
	until("the slow clients are ended", func() bool { return slow.Load() == 0 })
	if n := began.Load(); n < 20 {
		t.Errorf("only %d slow clients were let in", n)
	}
	flows("after the slow clients")
	if err := node.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
}
