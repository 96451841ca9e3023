package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// harmed is an error as a state machine may give it.
type harmed struct{}

func (harmed) Error() string { return "fake: a checksum does not fit" }
func (harmed) Damaged() bool { return true }

// harmable is a state machine whose files may be damaged: a file "harm" beside its state stands for it.
type harmable struct {
	*fakeState
	tell func(error) // fatal, as the Store gave it
}

func (h *harmable) Apply(index, term uint64, entry []byte) (any, error) {
	if ok, _ := exists(h.fs, h.fs.PathJoin(h.dir, "harm-apply")); ok {
		return nil, fmt.Errorf("apply: %w", harmed{})
	}
	return h.fakeState.Apply(index, term, entry)
}

func (h *harmable) Snapshot(dir string) (uint64, uint64, error) {
	if ok, _ := exists(h.fs, h.fs.PathJoin(h.dir, "harm-snapshot")); ok {
		return 0, 0, fmt.Errorf("snapshot: %w", harmed{})
	}
	return h.fakeState.Snapshot(dir)
}

func harmCluster(t *testing.T, n int) *cluster {
	return newCluster(t, n, 1, func(_ int, o *Options) {
		fsys := o.FS
		o.NewStateMachine = func(_ context.Context, _ uint32, dir string, fatal func(error)) (StateMachine, error) {
			for _, how := range []string{"harm-open", "harm-early"} {
				ok, err := exists(fsys, fsys.PathJoin(dir, how))
				switch {
				case err != nil:
					return nil, err
				case ok && how == "harm-open":
					return nil, fmt.Errorf("opening: %w", harmed{})
				case ok: // met by background work while the store still opens
					fatal(fmt.Errorf("background: %w", harmed{}))
				}
			}
			f, err := openFake(fsys, dir)
			return &harmable{f, fatal}, err
		}
	})
}

// harm damages a node's state, in one of the ways that harmable knows.
func (c *cluster) harm(i int, how string) {
	c.t.Helper()
	fsys := c.nodes[i].fs
	if err := errors.Join(writeFile(fsys, "data/shard-0/"+how, nil), syncDir(fsys, "data/shard-0")); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) fatal(i int) error {
	c.t.Helper()
	select {
	case err := <-c.nodes[i].fatal:
		return err
	case <-time.After(20 * time.Second):
		c.t.Fatal("no fatal error")
		return nil
	}
}

// TestDamagedState: damage of the state machine's files, however it is met, ends in an emptied folder and a new
// incarnation on one of three nodes, after one restart at most, also when the power goes with the process.
func TestDamagedState(t *testing.T) {
	for _, how := range []string{"harm-open", "harm-early", "harm-apply", "harm-snapshot", "reported"} {
		t.Run(how, func(t *testing.T) {
			c := harmCluster(t, 3)
			c.start(0, 1, 2)
			c.ready(c.all()...)
			for range 30 {
				c.put(0, 100)
			}
			c.agree(0, c.all()...)
			i := 1
			if how == "harm-snapshot" {
				i = c.leader(0)
			}
			cluster, former := c.nodes[i].store.ClusterID(), c.nodes[i].store.self.serverID()
			count := uint64(30)
			switch how {
			case "harm-open", "harm-early":
				c.stop(i)
				c.harm(i, how)
			default:
				switch how {
				case "harm-apply":
					c.harm(i, how)
					c.put(0, 10)
					count++
				case "harm-snapshot":
					c.harm(i, how)
					if _, _, err := c.nodes[i].store.groups[0].send.open(marker{}); err == nil {
						t.Fatal("a damaged state was copied")
					}
				case "reported":
					c.nodes[i].store.groups[0].sm.(*harmable).tell(fmt.Errorf("compaction: %w", harmed{}))
				}
				if err := c.fatal(i); !errors.Is(err, harmed{}) {
					t.Fatalf("fatal error %v", err)
				}
				c.kill(i)
			}
			c.start(i)
			c.ready(i)
			s := c.nodes[i].store
			if s.self.serverID() == former || s.ClusterID() != cluster {
				t.Fatalf("came back as %s of %s, was %s of %s", s.self.serverID(), s.ClusterID(), former, cluster)
			}
			select {
			case err := <-c.nodes[i].fatal:
				t.Fatalf("fatal after the restart: %v", err)
			default:
			}
			c.put(0, 10)
			if got := c.agree(0, c.all()...); got.Count != count+1 {
				t.Fatalf("count %d, want %d", got.Count, count+1)
			}
		})
	}
}

// TestDamagedStateOfASingleNode: there is nobody to rejoin. Nothing is changed, and damage that was met while the node ran
// is refused at every start, too.
func TestDamagedStateOfASingleNode(t *testing.T) {
	for _, how := range []string{"harm-open", "harm-apply"} {
		t.Run(how, func(t *testing.T) {
			c := harmCluster(t, 1)
			c.start(0)
			c.ready(0)
			for range 30 {
				c.put(0, 100)
			}
			if err := c.nodes[0].store.groups[0].sm.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
			g := c.nodes[0].store.groups[0]
			c.harm(0, how)
			if how == "harm-apply" {
				_, _ = g.Propose(make([]byte, 8)).Wait(context.Background())
				if err := c.fatal(0); !errors.Is(err, harmed{}) {
					t.Fatalf("fatal error %v", err)
				}
			}
			c.kill(0)
			before := vfs.NewMem()
			if _, err := vfs.Clone(c.nodes[0].fs, before, "data", "data"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, err := c.open(0)
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "a checksum does not fit") || !strings.Contains(err.Error(), "restore") {
					t.Fatalf("open gave %v", err)
				}
			}
			if !sameFiles(t, before, c.nodes[0].fs, "data/shard-0") || !sameFiles(t, before, c.nodes[0].fs, "data/snapshots") {
				t.Fatalf("the folder was\n%s\nand is\n%s", before, c.nodes[0].fs)
			}
			var st fakeImage
			if err := readSealed(c.nodes[0].fs, "data/shard-0/state", &st); err != nil || st.Count != 30 {
				t.Fatalf("state %+v %v", st, err)
			}
		})
	}
}

// sameFiles compares the names and sizes of a folder's files.
func sameFiles(t *testing.T, a, b vfs.FS, dir string) bool {
	t.Helper()
	list := func(fsys vfs.FS) string {
		m := manifest{}
		if err := m.scan(fsys, dir, ""); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(m.files)
	}
	return list(a) == list(b)
}
