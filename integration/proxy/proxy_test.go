package proxy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// echo is a server that sends back what it reads, and ends when the client has ended.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T) (*Proxy, net.Conn) {
	t.Helper()
	p, err := Listen(echo(t))
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p, dial(t, p)
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// answers says whether the text comes back in time.
func answers(t *testing.T, c net.Conn, text string, limit time.Duration) bool {
	t.Helper()
	_, err := c.Write([]byte(text))
	must(t, err)
	return reads(t, c, text, limit)
}

func reads(t *testing.T, c net.Conn, text string, limit time.Duration) bool {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(limit)))
	got := make([]byte, len(text))
	n, err := io.ReadFull(c, got)
	if errors.Is(err, io.EOF) || err != nil && n > 0 || err == nil && string(got) != text {
		t.Fatalf("read %q, %v; want %q or nothing", got[:n], err, text)
	}
	return err == nil
}

// fails expects that the other side ends the connection.
func fails(t *testing.T, c net.Conn) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	var slow net.Error
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &slow) && slow.Timeout() {
		t.Fatalf("the connection lives: %v", err)
	}
}

// refuses expects a new connection to fail, at once or when it is first used.
func refuses(t *testing.T, p *Proxy) {
	t.Helper()
	if c, err := net.Dial("tcp", p.Addr); err == nil {
		fails(t, c)
		_ = c.Close()
	}
}

func TestPassesEverything(t *testing.T) {
	_, c := start(t)
	sent := make([]byte, 5<<20)
	_, err := rand.Read(sent)
	must(t, err)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	must(t, err)
	if !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came back changed, of %d", len(got), len(sent))
	}
}

func TestHoldDeliversLate(t *testing.T) {
	for name, links := range map[string][2]Link{
		"up": {{Hold: true}, {}}, "down": {{}, {Hold: true}}, "both": {{Hold: true}, {Hold: true}},
	} {
		t.Run(name, func(t *testing.T) {
			p, c := start(t)
			if !answers(t, c, "before", time.Second) {
				t.Fatal("a good link does not answer")
			}
			p.Set(links[0], links[1])
			if answers(t, c, "within", 200*time.Millisecond) {
				t.Fatal("something passed a black hole")
			}
			if late := dial(t, p); answers(t, late, "new", 100*time.Millisecond) {
				t.Fatal("something passed a black hole on a new connection")
			}
			p.Heal()
			if !reads(t, c, "within", time.Second) || !answers(t, c, "after", time.Second) {
				t.Fatal("what was held did not arrive")
			}
		})
	}
}

func TestHoldKeepsTheEnd(t *testing.T) {
	p, c := start(t)
	p.Set(Link{}, Link{Hold: true})
	must(t, c.(*net.TCPConn).CloseWrite()) // the server ends, too
	must(t, c.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
		t.Fatal("the end of the stream passed a black hole")
	}
	p.Heal()
	must(t, c.SetReadDeadline(time.Now().Add(time.Second)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("after the black hole: %v, want the end of the stream", err)
	}
}

func TestCut(t *testing.T) {
	p, c := start(t)
	if !answers(t, c, "before", time.Second) {
		t.Fatal("a good link does not answer")
	}
	p.Cut()
	fails(t, c)
	refuses(t, p)
	p.Heal()
	if !answers(t, dial(t, p), "after", time.Second) {
		t.Fatal("no answer after the cut")
	}
}

func TestCutEndsAHold(t *testing.T) {
	p, c := start(t)
	p.Set(Link{Hold: true}, Link{Hold: true})
	if answers(t, c, "within", 50*time.Millisecond) {
		t.Fatal("something passed a black hole")
	}
	p.Cut()
	p.Heal()
	if !answers(t, dial(t, p), "after", time.Second) {
		t.Fatal("no answer after the cut")
	}
}

func TestSlow(t *testing.T) {
	p, c := start(t)
	p.Set(Link{Delay: 100 * time.Millisecond}, Link{Delay: 100 * time.Millisecond})
	began := time.Now()
	if !answers(t, c, "late", 2*time.Second) || time.Since(began) < 200*time.Millisecond {
		t.Errorf("a link with 100 ms a way answered in %v", time.Since(began))
	}
	p.Set(Link{Rate: 100_000}, Link{})
	began = time.Now()
	if !answers(t, c, string(make([]byte, 40_000)), 5*time.Second) || time.Since(began) < 350*time.Millisecond {
		t.Errorf("40 KB at 100 KB/s took %v", time.Since(began))
	}
}

func TestTargetIsDown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p, err := Listen(ln.Addr().String())
	must(t, err)
	must(t, ln.Close())
	refuses(t, p)
	must(t, p.Close())
}
