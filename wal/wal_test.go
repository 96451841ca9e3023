package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"deckle/cipherfs/cipherfstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustOpen(t testing.TB, fs vfs.FS, change ...func(*Options)) *Log {
	t.Helper()
	l, err := Open(context.Background(), options(fs, change...))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func options(fs vfs.FS, change ...func(*Options)) Options {
	o := Options{FS: cipherfstest.Over(fs), Dir: "wal", SegmentBytes: 8 << 10}
	for _, c := range change {
		c(&o)
	}
	return o
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seed returns the seed of a random test, DECKLE_SEED or a new one, and prints it.
func seed(t testing.TB) uint64 {
	s := rand.Uint64()
	if v := os.Getenv("DECKLE_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatalf("DECKLE_SEED: %v", err)
		}
		s = n
	}
	t.Logf("DECKLE_SEED=%d", s)
	return s
}

func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

func entry(index, term uint64, data string) *raft.Log {
	return &raft.Log{Index: index, Term: term, Data: []byte(data)}
}

// randomEntry draws an entry: every field is set sometimes, and sizes are around those of the crashable file system's
// blocks.
func randomEntry(rng *rand.Rand, index, term uint64) *raft.Log {
	e := &raft.Log{Index: index, Term: term, Type: raft.LogType(rng.IntN(6))}
	if rng.IntN(10) > 0 {
		n := rng.IntN(200)
		if rng.IntN(6) == 0 {
			n = rng.IntN(10_000)
		}
		e.Data = make([]byte, n)
		for i := range e.Data {
			e.Data[i] = byte(rng.Uint32())
		}
	}
	if rng.IntN(4) == 0 {
		e.Extensions = []byte(fmt.Sprintf("ext-%d", rng.Uint32()))
	}
	if rng.IntN(4) > 0 {
		e.AppendedAt = time.Unix(1_700_000_000+rng.Int64N(1e6), rng.Int64N(1e9)).UTC()
	}
	return e
}

func sameEntry(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) &&
		(a.Data == nil) == (b.Data == nil) && bytes.Equal(a.Extensions, b.Extensions) &&
		(a.Extensions == nil) == (b.Extensions == nil) && a.AppendedAt.Equal(b.AppendedAt)
}

// model is what one group must hold, kept in a naive way: a map, and the rules as the package's doc states them.
type model struct {
	entries map[uint64]*raft.Log
	keys    map[string]string
}

func newModel() *model {
	return &model{entries: map[uint64]*raft.Log{}, keys: map[string]string{}}
}

func (m *model) clone() *model {
	return &model{entries: maps.Clone(m.entries), keys: maps.Clone(m.keys)}
}

func (m *model) bounds() (first, last uint64) {
	if len(m.entries) == 0 {
		return 0, 0
	}
	k := slices.Collect(maps.Keys(m.entries))
	return slices.Min(k), slices.Max(k)
}

func (m *model) store(e *raft.Log) {
	for i := range m.entries {
		if i >= e.Index {
			delete(m.entries, i)
		}
	}
	if m.entries[e.Index-1] == nil {
		clear(m.entries)
	}
	m.entries[e.Index] = e
}

func (m *model) deleteRange(min, max uint64) {
	for i := range m.entries {
		if i >= min && i <= max {
			delete(m.entries, i)
		}
	}
}

func (m *model) set(key, val string) {
	if key == keyVoteTerm && m.keys[key] != val {
		delete(m.keys, keyCandidate)
	}
	m.keys[key] = val
}

// differs compares a group with the model and says where they differ; "" if nowhere.
func (m *model) differs(g *Group) string {
	first, last := m.bounds()
	gotFirst, err := g.FirstIndex()
	if err != nil {
		return err.Error()
	}
	gotLast, err := g.LastIndex()
	if err != nil {
		return err.Error()
	}
	if first != gotFirst || last != gotLast {
		return fmt.Sprintf("bounds are %d..%d, want %d..%d", gotFirst, gotLast, first, last)
	}
	for i, want := range m.entries {
		var got raft.Log
		if err := g.GetLog(i, &got); err != nil {
			return fmt.Sprintf("entry %d: %v", i, err)
		}
		if !sameEntry(&got, want) {
			return fmt.Sprintf("entry %d is of term %d, %d bytes, want term %d, %d bytes",
				i, got.Term, len(got.Data), want.Term, len(want.Data))
		}
	}
	for _, i := range []uint64{0, first - 1, last + 1} {
		if m.entries[i] != nil {
			continue
		}
		if err := g.GetLog(i, new(raft.Log)); err != raft.ErrLogNotFound { // with !=, as the library compares
			return fmt.Sprintf("entry %d: %v, want ErrLogNotFound", i, err)
		}
	}
	for _, k := range testKeys {
		want, ok := m.keys[k]
		got, err := g.Get([]byte(k))
		switch {
		case !ok && (err == nil || err.Error() != "not found"):
			return fmt.Sprintf("key %s: %q, %v, want not found", k, got, err)
		case ok && (err != nil || string(got) != want):
			return fmt.Sprintf("key %s: %q, %v, want %q", k, got, err, want)
		}
	}
	return ""
}

var testKeys = []string{keyTerm, keyVoteTerm, keyCandidate, "a", "b"}

// op is a random call of one group, as steps that become durable one after the other.
type op struct {
	name  string
	steps []func(*model)
	call  func(*Log, *Group) error
}

// randomOp draws a call that the library could make for a group with the given content.
func randomOp(rng *rand.Rand, m *model, id uint64) op {
	first, last := m.bounds()
	one := func(name string, step func(*model), call func(*Log, *Group) error) op {
		return op{name: name, steps: []func(*model){step}, call: call}
	}
	store := func(from uint64) op {
		var logs []*raft.Log
		o := op{name: fmt.Sprintf("store %d..", from)}
		for i := range 1 + rng.Uint64N(5) {
			e := randomEntry(rng, from+i, rng.Uint64())
			logs = append(logs, e)
			o.steps = append(o.steps, func(m *model) { m.store(e) })
		}
		o.call = func(_ *Log, g *Group) error { return g.StoreLogs(logs) }
		return o
	}
	del := func(min, max uint64) op {
		return one(fmt.Sprintf("delete %d..%d", min, max), func(m *model) { m.deleteRange(min, max) },
			func(_ *Log, g *Group) error { return g.DeleteRange(min, max) })
	}
	set := func(key, val string) op {
		return one("set "+key, func(m *model) { m.set(key, val) },
			func(_ *Log, g *Group) error { return g.Set([]byte(key), []byte(val)) })
	}
	switch n := rng.IntN(100); {
	case n < 55 || last == 0 && n < 85:
		return store(last + 1)
	case n < 65: // a conflicting suffix is overwritten
		return store(first + rng.Uint64N(last-first+1))
	case n < 67: // after an installed snapshot
		return store(last + 2 + rng.Uint64N(20))
	case n < 68:
		return store(1 + rng.Uint64N(last+1))
	case n < 78:
		return del(first-rng.Uint64N(2), first+rng.Uint64N(last-first+1))
	case n < 84:
		return del(first+rng.Uint64N(last-first+1), last+rng.Uint64N(2))
	case n < 85:
		return del(last+1, last+7)
	case n < 92:
		key := []string{keyTerm, keyVoteTerm}[rng.IntN(2)]
		return set(key, string(binary.BigEndian.AppendUint64(nil, rng.Uint64N(6))))
	case n < 95:
		return set(keyCandidate, fmt.Sprintf("node-%d", rng.IntN(3)))
	case n < 99:
		return set([]string{"a", "b"}[rng.IntN(2)], fmt.Sprint(rng.IntN(4)))
	default:
		return one("drop", func(m *model) { *m = *newModel() }, func(l *Log, _ *Group) error { return l.DropGroup(id) })
	}
}

func asCorrupt(t testing.TB, err error) *CorruptError {
	t.Helper()
	c, ok := errors.AsType[*CorruptError](err)
	if !ok {
		t.Fatalf("got %v, want a CorruptError", err)
	}
	return c
}
