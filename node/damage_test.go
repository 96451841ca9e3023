package node_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/raftstore"
	"deckle/state"
)

// tables returns the paths of a shard's SSTs, with their sizes.
func tables(t *testing.T, fsys vfs.FS) map[string]int64 {
	t.Helper()
	names, err := fsys.List("data/shard-0")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, n := range names {
		if strings.HasSuffix(n, ".sst") {
			st, err := fsys.Stat("data/shard-0/" + n)
			if err != nil {
				t.Fatal(err)
			}
			out["data/shard-0/"+n] = st.Size()
		}
	}
	if len(out) == 0 {
		t.Fatalf("no table among %v", names)
	}
	return out
}

func flipBit(t *testing.T, fsys vfs.FS, path string, bit int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err = f.ReadAt(b[:], bit/8); err == nil {
		b[0] ^= 1 << (bit % 8)
		_, err = f.WriteAt(b[:], bit/8)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// flipUnseen flips one bit such that the state still opens, and the damage shows only when all of it is read.
func flipUnseen(t *testing.T, fsys *vfs.MemFS, rng *rand.Rand) {
	t.Helper()
	found := tables(t, fsys)
	for range 10_000 {
		for path, size := range found {
			bit := rng.Int64N(size * 8)
			try := vfs.NewMem()
			if _, err := vfs.Clone(fsys, try, "data/shard-0", "data/shard-0"); err != nil {
				t.Fatal(err)
			}
			flipBit(t, try, path, bit)
			var told atomic.Bool // Pebble's background work reports damage, too
			s, err := state.Open(t.Context(), state.Options{FS: try, Dir: "data/shard-0", OnFatal: func(error) {
				told.Store(true)
			}})
			if err != nil {
				continue
			}
			unseen := !told.Load()
			_, err = s.Checksum()
			if cerr := s.Close(); cerr != nil && err == nil {
				t.Fatal(cerr)
			}
			if unseen && err != nil {
				flipBit(t, fsys, path, bit)
				return
			}
		}
	}
	t.Fatal("every flipped bit was seen at once")
}

// id returns the server id of a member.
func (r *replicas) id(i int) (id string) {
	r.look(i, func(s *raftstore.Store, _ *state.Store) { id = s.Status().ServerID })
	return id
}

// TestDamagedStateRejoins: bits flip in the tables of one node's state. Whether that shows when the node starts or
// while it runs, the node is back, with a new incarnation and the others' state, after one restart.
func TestDamagedStateRejoins(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := newReplicas(t, rand.New(rand.NewPCG(seed, 1)))
	r.start(0, 1, 2)
	r.ready(0, 1, 2)
	l := &load{r: r, rng: rand.New(rand.NewPCG(seed, 2)), now: 1767225600,
		sinks: []state.SinkID{state.SinkEvents, state.SinkSessions, state.SinkRevisions, state.SinkClickHouse,
			state.SinkDeadLetter}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	stop := func() { cancel(); wg.Wait() }
	defer stop()
	wg.Go(func() { l.run(ctx) })

	for _, when := range []string{"start", "run", "start"} {
		r.advance(100)
		i := r.rng.IntN(3)
		m := r.members[i]
		former := r.id(i)
		r.look(i, func(_ *raftstore.Store, sm *state.Store) {
			if err := sm.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		r.end(i)
		if when == "start" {
			for path, size := range tables(t, m.fs) {
				for range 4 {
					flipBit(t, m.fs, path, r.rng.Int64N(size*8))
				}
			}
		} else {
			flipUnseen(t, m.fs, r.rng)
		}
		r.start(i)
		if when == "run" {
			r.ready(i)
			if id := r.id(i); id != former {
				t.Fatalf("came back as %s before anybody could see the damage", id)
			}
			r.look(i, func(_ *raftstore.Store, sm *state.Store) {
				if _, err := sm.Checksum(); err == nil { // reads all of it
					t.Error("the damage is not there")
				}
			})
		}
		// Opening the store may read none of the four flipped bits: then the load, or this reader, meets them.
		r.eventually("the damage is answered", func() bool {
			select {
			case err := <-m.fatal:
				if _, ok := errors.AsType[*state.DamageError](err); !ok {
					t.Fatalf("fatal: %v", err)
				}
				r.kill(0, i)
				r.start(i)
			default:
			}
			r.look(i, func(_ *raftstore.Store, sm *state.Store) {
				if sm != nil {
					_, _ = sm.Checksum()
				}
			})
			return r.id(i) != former
		})
		r.ready(i)
	}
	r.advance(50)
	stop()
	r.equal()
}

// TestDamagedStateOfASingleNode: a damaged state is refused with an error that says what to do, also when the damage
// was met at run time.
func TestDamagedStateOfASingleNode(t *testing.T) {
	fsys := vfs.NewMem()
	fatal := make(chan error, 1)
	open := func() (*raftstore.Store, error) {
		return raftstore.Open(t.Context(), raftstore.Options{
			FS: fsys, Dir: "data", Name: "a", Nodes: []raftstore.Peer{{Name: "a", Addr: "127.0.0.1:0"}}, Shards: 1,
			OnFatal: func(err error) { fatal <- err },
			NewStateMachine: func(
				ctx context.Context, _ uint32, dir string, fail func(error),
			) (raftstore.StateMachine, error) {
				return state.Open(ctx, state.Options{FS: fsys, Dir: dir, OnFatal: fail})
			},
		})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := open()
	must(err)
	<-s.Ready()
	l := &load{rng: rand.New(rand.NewPCG(1, 2)), now: 1767225600}
	propose := func(entry []byte) {
		_, err := s.Group(0).Propose(entry).Wait(t.Context())
		must(err)
	}
	for l := range s.Group(0).Leadership() {
		if l.Leader {
			break
		}
	}
	propose(state.EncodeConfig(state.Config{Shards: 1, Topic: "t", Partitions: []int32{0, 1, 2},
		Starts: []int64{0, 0, 0}, Sinks: []state.SinkID{state.SinkEvents}}))
	next := map[int32]int64{}
	for range 400 { // images for several blocks: some are not read when the store is opened
		propose(state.AppendBatch(nil, l.batch(next)))
	}
	propose(state.EncodeCut(l.now*1000, 0, 0))
	sm := s.Group(0).StateMachine().(*state.Store)
	must(sm.Checkpoint(t.Context()))
	must(s.Close(t.Context()))
	intact := vfs.NewMem()
	_, err = vfs.Clone(fsys, intact, "", "")
	must(err)

	// Met at run time, damage is fatal, and the state is refused from then on.
	flipUnseen(t, fsys, rand.New(rand.NewPCG(1, 3)))
	s, err = open()
	must(err)
	<-s.Ready()
	if _, err := s.Group(0).StateMachine().(*state.Store).Checksum(); err == nil {
		t.Fatal("the damage is not there")
	}
	var d *state.DamageError
	if err := <-fatal; !errors.As(err, &d) {
		t.Fatalf("fatal: %v", err)
	}
	must(s.Close(t.Context()))
	refused := func() {
		t.Helper()
		for range 2 {
			if _, err := open(); !errors.Is(err, raftstore.ErrDamaged) ||
				!strings.Contains(err.Error(), "restore the whole of data") {
				t.Fatalf("open gave %v", err)
			}
		}
	}
	refused()

	// The copy is restored, and is undamaged.
	fsys = vfs.NewMem()
	_, err = vfs.Clone(intact, fsys, "", "")
	must(err)
	s, err = open()
	must(err)
	<-s.Ready()
	_, err = s.Group(0).StateMachine().(*state.Store).Checksum()
	must(err)
	must(s.Close(t.Context()))

	// Met at the start, damage is refused, and nothing else happens.
	damaged := tables(t, fsys) // not those of the copy: opening it has compacted some of them away
	for path, size := range damaged {
		for off := range size {
			flipBit(t, fsys, path, off*8)
		}
	}
	refused()
	if left := tables(t, fsys); !maps.Equal(left, damaged) {
		t.Fatalf("tables are gone: %v, before %v", left, damaged)
	}
}
