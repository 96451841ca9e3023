package deltalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"deckle/sinks"
)

// A shard whose txn has gone back writes nothing more, wherever it stands now, until it is set again or settled. The
// other shards go on.
func TestTxnBack(t *testing.T) {
	const id, other = "c1/p/0/sessions", "c1/p/1/sessions"
	for back := range int64(5) { // from 5
		for version := int64(1); version < 9; version++ {
			_, mem, opts := overTime(time.UnixMilli(1))
			l := open(t, opts)
			submit(t, l, &Change{Parts: on(l, id, 5), Last: true, Adds: []Add{ownFile(1)}})
			set := func(to int64) {
				t.Helper()
				key := l.commitKey(snapshot(l).Version + 1)
				mem.Overwrite(key, fmt.Appendf(nil, `{"txn":{"appId":%q,"version":%d}}`+"\n", id, to))
				if err := l.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			n := 10
			write := func(id string, version int64) error {
				n++
				return l.Submit(t.Context(), &Change{Parts: on(l, id, version), Last: true, Adds: []Add{ownFile(n)}})
			}
			set(back)
			err := write(id, version)
			if _, stopped := errors.AsType[*sinks.StopError](err); !stopped ||
				!strings.Contains(err.Error(), fmt.Sprintf("is at %d and was at 5", back)) {
				t.Fatalf("to %d, plan %d: %v", back, version, err)
			}
			if err := write(other, version); err != nil || l.CheckRevises() == nil {
				t.Errorf("another shard: %v; revisions wait: %v", err, l.CheckRevises())
			}
			if version%2 == 0 {
				set(5)
			} else if v, err := l.AcceptRemoved(t.Context()); v < 0 || err != nil {
				t.Fatal(v, err)
			}
			if err := write(id, 9); err != nil {
				t.Errorf("to %d, settled: %v", back, err)
			}
			set(8)
			if _, stopped := errors.AsType[*sinks.StopError](write(id, 10)); !stopped {
				t.Error("a second time: no stop")
			}
		}
	}
}

// The log is replaced by an older copy while a writer runs: it stops for each shard whose txn is less than it was.
func TestOlderCopy(t *testing.T) {
	clock, mem, opts := overTime(time.UnixMilli(1))
	opts.CheckpointInterval = 1 << 30
	l := open(t, opts)
	ids := []string{"c1/p/0/sessions", "c1/p/1/sessions", "c1/p/2/sessions"}
	for v := range int64(3) {
		for i, id := range ids {
			submit(t, l, &Change{Parts: on(l, id, v+1), Last: true, Adds: []Add{ownFile(10*i + int(v) + 1)}})
		}
	}
	for _, v := range []int64{8, 9} {
		if err := mem.Delete(t.Context(), l.commitKey(v)); err != nil {
			t.Fatal(err)
		}
	}
	clock.Pass(2 * relistAfter)
	for i, id := range ids {
		err := l.Submit(t.Context(), &Change{Parts: on(l, id, 4), Last: true, Adds: []Add{ownFile(40 + i)}})
		if errors.Is(err, ErrRebuild) { // made before the log was read anew
			err = l.Submit(t.Context(), &Change{Parts: on(l, id, 4), Last: true, Adds: []Add{ownFile(40 + i)}})
		}
		if _, stopped := errors.AsType[*sinks.StopError](err); stopped != (i > 0) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if v, err := l.AcceptRemoved(t.Context()); v < 0 || err != nil {
		t.Fatal(v, err)
	}
	for i, id := range ids {
		submit(t, l, &Change{Parts: on(l, id, 5), Last: true, Adds: []Add{ownFile(50 + i)}})
	}
}
