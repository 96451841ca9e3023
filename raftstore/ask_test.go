package raftstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A node does what another one asks of it, and knows which one it is. One that cannot says so.
func TestDo(t *testing.T) {
	c := newCluster(t, 3, 1, func(i int, o *Options) {
		if i == 1 {
			o.Do = func(ctx context.Context, from string, what json.RawMessage) json.RawMessage {
				if _, bounded := ctx.Deadline(); !bounded {
					return nil
				}
				time.Sleep(3 * o.Timings.Transport) // it may ask others in turn
				return json.RawMessage(`["done for ` + from + `",` + string(what) + `]`)
			}
		}
	})
	c.start(c.all()...)
	for i := range c.nodes {
		<-c.nodes[i].store.Ready()
	}
	a := c.nodes[0].store
	got, err := a.Do(t.Context(), "b", json.RawMessage(`{"x":1}`))
	if err != nil || string(got) != `["done for a",{"x":1}]` {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := a.Do(t.Context(), "c", json.RawMessage(`{}`)); !errors.Is(err, ErrRefused) {
		t.Errorf("of a node that does nothing: %v", err)
	}
	if _, err := a.Do(t.Context(), "z", json.RawMessage(`{}`)); err == nil {
		t.Error("no error for a node that is not configured")
	}
}

// A node learns what another one says of itself, at once and not through the log: the other may lead nothing, or have
// no majority.
func TestAsk(t *testing.T) {
	long := strings.Repeat("x", MaxTold-2)
	c := newCluster(t, 3, 1, func(i int, o *Options) {
		o.Tell = func() json.RawMessage { return json.RawMessage(fmt.Sprintf("%q", o.Name)) }
		switch i {
		case 1:
			o.Tell = func() json.RawMessage { return json.RawMessage(fmt.Sprintf("%q", long)) }
		case 2:
			o.Tell = nil // as a node of an earlier version
		}
	})
	c.start(c.all()...)
	for i := range c.nodes {
		<-c.nodes[i].store.Ready()
	}
	b := c.nodes[1].store
	if told, err := b.Ask(t.Context(), "a"); err != nil || string(told) != `"a"` {
		t.Errorf("%s, %v", told, err)
	}
	var text string
	told, err := c.nodes[0].store.Ask(t.Context(), "b")
	if err != nil || json.Unmarshal(told, &text) != nil || text != long {
		t.Errorf("%d bytes: %v", len(told), err)
	}
	// A node that cannot say it has answered all the same: it is not away.
	if _, err := b.Ask(t.Context(), "c"); !errors.Is(err, ErrRefused) {
		t.Errorf("of a node that does not tell: %v", err)
	}
	c.stop(0)
	if _, err := b.Ask(t.Context(), "a"); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("of a node that does not run: %v", err)
	}
	if _, err := b.Ask(t.Context(), "z"); err == nil {
		t.Error("no error for a node that is not configured")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Ask(ctx, "c"); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("after the end of its context: %v", err)
	}
}
