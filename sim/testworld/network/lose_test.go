package network

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// A request of kind share is lost before it is sent, or its answer when it is there; other connections lose nothing.
func TestLose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(func(int) int { return 0 })
		defer n.Close()
		next := 0
		r := NewRelay(n, func(most int) int {
			if most == 2 {
				next++
				return next % 2
			}
			return 0
		})
		ln, err := n.Listen("b", "b:1")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		taken := 0
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				h := make([]byte, headerFixed+1)
				if _, err := io.ReadFull(c, h); err == nil {
					_, _ = c.Write([]byte{0})
					if _, err := io.ReadFull(c, make([]byte, 4)); err == nil {
						taken++
						_, _ = c.Write([]byte("done"))
					}
				}
				_ = c.Close()
			}
		}()
		// ask returns whether the request was taken, and whether it was answered.
		ask := func(kind byte) (got, answered bool) {
			t.Helper()
			before := taken
			c, err := r.Dial(t.Context(), "a", "b:1", func(ctx context.Context, addr string) (net.Conn, error) {
				return n.Dial(ctx, "a", addr)
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if _, err := c.Write([]byte{'D', 'K', 'L', '1', kind, 0, 0, 0, 0, 1, 'b'}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if _, err = c.Write([]byte("work")); err == nil {
				_, err = io.ReadFull(c, make([]byte, 4))
			}
			synctest.Wait()
			return taken > before, err == nil
		}
		is := func(what string, kind byte, got, answered bool) {
			t.Helper()
			if g, a := ask(kind); g != got || a != answered {
				t.Errorf("%s: taken %v, answered %v", what, g, a)
			}
		}
		is("nothing is lost", kindShare, true, true)
		r.Lose(1)
		is("the answer", kindShare, true, false)
		is("the request", kindShare, false, false)
		is("another kind", 2, true, true)
		r.Lose(0)
		is("nothing is lost again", kindShare, true, true)
		if r.Lost() != 2 {
			t.Errorf("%d lost", r.Lost())
		}
	})
}
