package network

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func drawer(seed uint64) func(int) int {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 1))
	return func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
}

// pair returns a connection from host a to host b.
func pair(t *testing.T, n *Network) (client, server *Conn) {
	t.Helper()
	ln, err := n.Listen("b", "b:1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.Dial(t.Context(), "a", "b:1")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return c.(*Conn), s.(*Conn)
}

// TestConn runs the standard library's test of a net.Conn in real time, with and without latency.
func TestConn(t *testing.T) {
	for name, latency := range map[string]time.Duration{"at once": 0, "delayed": 50 * time.Microsecond} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				n := New(drawer(1))
				n.Delay("a", "b", latency, latency)
				n.Delay("b", "a", latency, latency)
				c, s := pair(t, n)
				return c, s, n.Close, nil
			})
		})
	}
}

// bubble runs a test of a network in virtual time.
func bubble(t *testing.T, test func(t *testing.T, n *Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(drawer(2))
		defer n.Close()
		test(t, n)
	})
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatalf("write %q: %v", s, err)
	}
}

// receive reads s, and returns how long that took.
func receive(t *testing.T, c net.Conn, s string) time.Duration {
	t.Helper()
	start := time.Now()
	got := make([]byte, len(s))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != s {
		t.Fatalf("read %q, %v; want %q", got, err, s)
	}
	return time.Since(start)
}

// nothing wants a read to wait for at least d.
func nothing(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	k, err := c.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) || k != 0 || time.Since(start) != d {
		t.Fatalf("%d bytes, %v after %s; want nothing for %s", k, err, time.Since(start), d)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func TestLatency(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		n.Delay("a", "b", 30*time.Millisecond, 0)
		n.Delay("b", "a", 5*time.Millisecond, 0)
		start := time.Now()
		c, s := pair(t, n)
		if d := time.Since(start); d != 35*time.Millisecond {
			t.Errorf("a dial takes %s", d)
		}
		send(t, c, "x")
		if d := receive(t, s, "x"); d != 30*time.Millisecond {
			t.Errorf("there in %s", d)
		}
		send(t, s, "y")
		if d := receive(t, c, "y"); d != 5*time.Millisecond {
			t.Errorf("back in %s", d)
		}
		// With jitter the bytes stay in order, and so does their end.
		n.Delay("a", "b", 0, time.Second)
		var want []byte
		for i := range 200 {
			want = append(want, byte(i))
			send(t, c, string(want[i:]))
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v, %v", got, err)
		}
		if n.Delay("a", "b", 0, 0); time.Since(start) > 3*time.Second {
			t.Errorf("it took %s", time.Since(start))
		}
	})
}

func TestCutIsOneWay(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		n.Cut("a", "b")
		send(t, c, "held")
		send(t, s, "free")
		receive(t, c, "free")
		nothing(t, s, time.Hour)
		time.AfterFunc(time.Minute, func() { n.Heal("a", "b") })
		if d := receive(t, s, "held"); d != time.Minute {
			t.Errorf("after %s", d)
		}
		// What would end the connection is held like everything else.
		n.Cut("b", "a")
		n.Kill("b")
		nothing(t, c, time.Hour)
		n.Heal("b", "a")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDialOverACut(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		ln, err := n.Listen("b", "b:1")
		if err != nil {
			t.Fatal(err)
		}
		for _, cut := range [][2]string{{"a", "b"}, {"b", "a"}} {
			n.Cut(cut[0], cut[1])
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			start := time.Now()
			_, err = n.Dial(ctx, "a", "b:1")
			cancel()
			if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() || time.Since(start) != time.Minute {
				t.Errorf("got %v after %s", err, time.Since(start))
			}
			time.AfterFunc(time.Second, func() { n.Heal(cut[0], cut[1]) })
			start = time.Now()
			if _, err = n.Dial(t.Context(), "a", "b:1"); err != nil || time.Since(start) != time.Second {
				t.Errorf("got %v after %s", err, time.Since(start))
			}
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		n.Cut("a", "b") // the machine would refuse, but is not asked
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := n.Dial(ctx, "a", "b:1"); errors.Is(err, syscall.ECONNREFUSED) || err == nil {
			t.Errorf("got %v", err)
		}
		n.Heal("a", "b")
		if _, err := n.Dial(t.Context(), "a", "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v", err)
		}
	})
}

func TestReset(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		n.Cut("a", "b") // a reset is the plan's, not a message
		var wg sync.WaitGroup
		for _, end := range []*Conn{c, s} {
			wg.Go(func() {
				if _, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("read: %v", err)
				}
				if _, err := end.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("write: %v", err)
				}
			})
		}
		synctest.Wait()
		n.Reset("b", "a")
		wg.Wait()
	})
}

func TestFreeze(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		ln, err := n.Listen("b", "b:2")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		after := func(what string, d time.Duration) {
			if got := time.Since(start); got != d {
				t.Errorf("%s after %s, want %s", what, got, d)
			}
		}
		send(t, s, "sent before")
		n.Freeze("b")
		receive(t, c, "sent before") // it was on its way
		var wg sync.WaitGroup
		if err := s.SetReadDeadline(start.Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { // its timeout is late, like everything that it does
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read: %v", err)
			}
			after("timeout", time.Minute)
			if err := s.SetReadDeadline(time.Time{}); err != nil {
				t.Error(err)
			}
			receive(t, s, "ping")
			send(t, s, "pong")
		})
		wg.Go(func() {
			d, err := n.Dial(t.Context(), "a", "b:2") // the port is open
			if err != nil {
				t.Error(err)
				return
			}
			after("dial to it", 0)
			_ = d.Close()
		})
		wg.Go(func() {
			if _, err := ln.Accept(); err != nil {
				t.Error(err)
			}
			after("accept", time.Minute)
		})
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := n.Dial(ctx, "b", "b:2"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("dial: %v", err)
			}
			after("dial of it", time.Minute)
		})
		send(t, c, "ping")
		time.AfterFunc(time.Minute, func() { n.Thaw("b") })
		receive(t, c, "pong")
		after("answer", time.Minute)
		wg.Wait()

		n.Freeze("b")
		if err := s.Close(); err != nil { // for example by a timer of the process: nothing leaves it
			t.Fatal(err)
		}
		nothing(t, c, time.Minute)
		n.Thaw("b")
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v", err)
		}
	})
}

func TestKill(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		old := n.Process("b")
		c, s := pair(t, n)
		ln, err := n.Listen("b", "b:2")
		if err != nil {
			t.Fatal(err)
		}
		n.Delay("b", "a", time.Second, 0)
		n.Freeze("b") // a paused process can be killed
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("its read: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("its accept: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := old.Dial(t.Context(), "b:2"); !errors.Is(err, syscall.ECONNABORTED) {
				t.Errorf("its dial: %v", err)
			}
		})
		synctest.Wait()
		n.Kill("b")
		wg.Wait()
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || time.Since(start) != time.Second {
			t.Errorf("the peer's read: %v after %s", err, time.Since(start))
		}
		if _, err := n.Dial(t.Context(), "a", "b:2"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a dial to it: %v", err)
		}
		// The next process under the name has the port, and the dead one still has nothing.
		if _, err := n.Listen("b", "b:2"); err != nil {
			t.Error(err)
		}
		if _, err := n.Dial(t.Context(), "b", "b:2"); err != nil {
			t.Error(err)
		}
		if _, err := old.Dial(t.Context(), "b:2"); !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("a dial of the dead: %v", err)
		}
		if _, err := old.Listen("b:3"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a listener of the dead: %v", err)
		}
	})
}

// TestSendToWhatIsGone: a reset tells the sender.
func TestSendToWhatIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		n.Delay("a", "b", time.Second, 0)
		n.Delay("b", "a", time.Second, 0)
		c, s := pair(t, n)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		send(t, c, "x") // nobody can know yet
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write: %v", err)
		}
		if _, err := s.Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("own end: %v", err)
		}
	})
}

func TestWindowIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		n.Cut("a", "b")
		if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		k, err := c.Write(make([]byte, 3*window))
		if k != window || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes, %v", k, err)
		}
		if err := c.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		n.Heal("a", "b")
		var wg sync.WaitGroup
		wg.Go(func() {
			if k, err := c.Write(make([]byte, 2*window)); k != 2*window || err != nil {
				t.Errorf("%d bytes, %v", k, err)
			}
			_ = c.CloseWrite()
		})
		if got, err := io.ReadAll(s); len(got) != 3*window || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		wg.Wait()
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("after CloseWrite: %v", err)
		}
		send(t, s, "the other way is open")
		receive(t, c, "the other way is open")
	})
}

func TestClosedNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, n *Network) {
		c, s := pair(t, n)
		n.Cut("b", "a")
		send(t, s, "held")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := n.Dial(ctx, "a", "b:1"); err == nil {
				t.Error("a dial succeeds")
			}
		})
		wg.Go(func() {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a read succeeds")
			}
		})
		synctest.Wait()
		n.Close()
		wg.Wait()
		if _, err := n.Listen("c", "c:1"); err == nil {
			t.Error("a new host listens")
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.conns) != 0 || len(n.listeners) != 0 {
			t.Errorf("%d connections and %d listeners are left", len(n.conns), len(n.listeners))
		}
	})
}
