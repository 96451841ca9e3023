package deltalog

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"deckle/sim/testworld/objects"
)

// A hint at a checkpoint that is gone, or that another tool has made in several parts, does not keep this writer from
// making its own.
func TestForeignHint(t *testing.T) {
	for _, hint := range []string{
		`{"version":%d,"size":3,"parts":2}`, // a multi-part one
		`{"version":%d,"size":3}`,           // gone, or a V2 one under another name
	} {
		for _, at := range []int64{5, 10, 12} { // before, at and after the version of the next own checkpoint
			t.Run(fmt.Sprintf(hint, at), func(t *testing.T) {
				mem := objects.NewMem(nil)
				opts := writerOptions(mem)
				opts.Metrics = NewMetrics(nil)
				l := open(t, opts)
				commit := func(to int64) {
					for v := snapshot(l).Version + 1; v <= to; v++ {
						submit(t, l, &Change{Parts: on(l, "x", v), Last: true,
							Adds: []Add{add(fmt.Sprintf("f%d", v), Origin{})}})
					}
					l.keeper.wait.Wait()
				}
				commit(9)
				mem.Overwrite("t/_delta_log/_last_checkpoint", fmt.Appendf(nil, hint, at))
				commit(10)
				if keys := mem.Keys("t/_delta_log/00000000000000000010.checkpoint"); len(keys) != 1 {
					t.Fatal("no checkpoint of version 10")
				}
				commit(20) // builds on it
				if keys := mem.Keys("t/_delta_log/00000000000000000020.checkpoint"); len(keys) != 1 {
					t.Fatal("no checkpoint of version 20")
				}
				if s := snapshot(open(t, writerOptions(mem))); s.Checkpoint != 20 || s.Len() != 20 {
					t.Fatalf("checkpoint %d, %d files", s.Checkpoint, s.Len())
				}
			})
		}
	}
}

// A node whose clock is a year ahead deletes no young commit. Another node, whose snapshot is a few versions old, would
// take the deleted version for a free one, and write a commit that no reader would ever see.
func TestCleanupWithAClockThatIsAhead(t *testing.T) {
	mem := objects.NewMem(nil)
	behind := open(t, writerOptions(mem))
	submit(t, behind, &Change{Parts: on(behind, "behind", 1), Last: true, Adds: []Add{add("b1", Origin{})}})
	opts := writerOptions(mem)
	opts.Now = func() time.Time { return time.Now().AddDate(1, 0, 0) }
	ahead := open(t, opts)
	for v := int64(1); v <= 25; v++ {
		submit(t, ahead, &Change{Parts: on(ahead, "ahead", v), Last: true,
			Adds: []Add{add(fmt.Sprint("a", v), Origin{})}})
	}
	ahead.keeper.wait.Wait()
	if n, err := ahead.Cleanup(t.Context()); n != 0 || err != nil {
		t.Errorf("%d young objects were deleted, %v", n, err)
	}
	submit(t, behind, &Change{Parts: on(behind, "behind", 2), Last: true, Adds: []Add{add("b2", Origin{})}})
	s := snapshot(open(t, writerOptions(mem)))
	if s.Txns["behind"].Version != 2 || s.Len() != 27 {
		t.Fatalf("a reader sees txn %d and %d files of 27", s.Txns["behind"].Version, s.Len())
	}
}

// A checkpoint of another tool that cannot be read, and which the hint names, does not end the making of checkpoints.
func TestCheckpointOverADamagedOne(t *testing.T) {
	var empty bytes.Buffer // a Parquet file with no protocol and no metaData
	if err := parquet.NewGenericWriter[checkpointRow](&empty).Close(); err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{"no Parquet": []byte("PAR1 no footer PAR1"), "empty": empty.Bytes()} {
		t.Run(name, func(t *testing.T) {
			mem := objects.NewMem(nil)
			l := open(t, writerOptions(mem))
			for v := int64(1); v <= 60; v++ {
				if v == 15 {
					mem.Overwrite(l.checkpointKey(14), damaged)
					mem.Overwrite(l.root+lastCheckpoint, []byte(`{"version":14,"size":1}`))
				}
				submit(t, l, &Change{Parts: on(l, "x", v), Last: true,
					Adds: []Add{add(fmt.Sprint("f", v), Origin{})}})
				l.keeper.wait.Wait()
			}
			s := snapshot(open(t, writerOptions(mem)))
			if s.Version != 60 || s.Checkpoint < 30 || s.Len() != 60 {
				t.Fatalf("version %d, checkpoint %d, %d files", s.Version, s.Checkpoint, s.Len())
			}
		})
	}
}
