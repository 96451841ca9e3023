package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"deckle/cipherfs/cipherfstest"
)

// damageError is an error that says, as one of a state machine may, that files are lost.
type damageError struct{}

func (damageError) Error() string { return "fake: a checksum does not fit" }
func (damageError) Damaged() bool { return true }

// damageable is a state machine whose files may be damaged: a file beside its state, "damaged-open" for example, says
// so.
type damageable struct {
	*fakeState
	fatal func(error) // as the Store gave it
}

func (d *damageable) Apply(index, term uint64, entry []byte) (any, error) {
	if ok, _ := exists(d.fs, d.fs.PathJoin(d.dir, "damaged-apply")); ok {
		return nil, fmt.Errorf("apply: %w", damageError{})
	}
	return d.fakeState.Apply(index, term, entry)
}

func (d *damageable) Snapshot(dir string) (uint64, uint64, error) {
	if ok, _ := exists(d.fs, d.fs.PathJoin(d.dir, "damaged-snapshot")); ok {
		return 0, 0, fmt.Errorf("snapshot: %w", damageError{})
	}
	return d.fakeState.Snapshot(dir)
}

func damageableCluster(t *testing.T, n int) *cluster {
	return newCluster(t, n, 1, func(_ int, o *Options) {
		fsys := o.FS
		o.NewStateMachine = func(_ context.Context, _ uint32, dir string, fatal func(error)) (StateMachine, error) {
			for _, how := range []string{"damaged-open", "damaged-early"} {
				ok, err := exists(fsys, fsys.PathJoin(dir, how))
				switch {
				case err != nil:
					return nil, err
				case ok && how == "damaged-open":
					return nil, fmt.Errorf("opening: %w", damageError{})
				case ok: // met by background work while the store still opens
					fatal(fmt.Errorf("background: %w", damageError{}))
				}
			}
			f, err := openFake(fsys, dir)
			return &damageable{f, fatal}, err
		}
	})
}

// damage damages a node's state, in one of the ways that damageable knows.
func (c *cluster) damage(i int, how string) {
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

// Damage of the state machine's files, however it is met, ends on one of three nodes in an emptied folder and a new
// incarnation, after one restart at most, also when the power fails along with the process.
func TestDamagedState(t *testing.T) {
	for _, how := range []string{"damaged-open", "damaged-early", "damaged-apply", "damaged-snapshot", "reported"} {
		t.Run(how, func(t *testing.T) {
			c := damageableCluster(t, 3)
			c.start(0, 1, 2)
			c.ready(c.all()...)
			for range 30 {
				c.put(0, 100)
			}
			c.agree(0, c.all()...)
			i := 1
			if how == "damaged-snapshot" {
				i = c.leader(0)
			}
			cluster, former := c.nodes[i].store.ClusterID(), c.nodes[i].store.self.serverID()
			count := uint64(30)
			switch how {
			case "damaged-open", "damaged-early":
				c.stop(i)
				c.damage(i, how)
			default:
				switch how {
				case "damaged-apply":
					c.damage(i, how)
					c.put(0, 10)
					count++
				case "damaged-snapshot":
					c.damage(i, how)
					if _, _, err := c.nodes[i].store.groups[0].send.open(marker{}); err == nil {
						t.Fatal("a damaged state was copied")
					}
				case "reported":
					c.nodes[i].store.groups[0].sm.(*damageable).fatal(fmt.Errorf("compaction: %w", damageError{}))
				}
				if err := c.fatal(i); !errors.Is(err, damageError{}) {
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
			// What was proposed again, because nobody knew whether it had been committed, may count twice.
			if got := c.agree(0, c.all()...); got.Count < count+1 || got.Count > count+1+c.again.Load() {
				t.Fatalf("count %d, want %d and at most %d more", got.Count, count+1, c.again.Load())
			}
		})
	}
}

// A single node has no other node to rejoin. Nothing is changed, and damage that was met while the node ran is refused
// at every start, too.
func TestDamagedStateOfASingleNode(t *testing.T) {
	for _, how := range []string{"damaged-open", "damaged-apply"} {
		t.Run(how, func(t *testing.T) {
			c := damageableCluster(t, 1)
			c.start(0)
			c.ready(0)
			for range 30 {
				c.put(0, 100)
			}
			if err := c.nodes[0].store.groups[0].sm.Checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
			g := c.nodes[0].store.groups[0]
			c.damage(0, how)
			if how == "damaged-apply" {
				_, _ = g.Propose(make([]byte, 8)).Wait(context.Background())
				if err := c.fatal(0); !errors.Is(err, damageError{}) {
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
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "a checksum does not fit") ||
					!strings.Contains(err.Error(), "restore") {
					t.Fatalf("open gave %v", err)
				}
			}
			if !sameFiles(t, before, c.nodes[0].fs, "data/shard-0") ||
				!sameFiles(t, before, c.nodes[0].fs, "data/snapshots") {
				t.Fatalf("the folder was\n%s\nand is\n%s", before, c.nodes[0].fs)
			}
			var st fakeImage
			over := cipherfstest.Over(c.nodes[0].fs)
			if err := readSealed(over, "data/shard-0/state", &st); err != nil || st.Count != 30 {
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
