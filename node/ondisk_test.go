package node

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/node/config"
	"deckle/node/nodetest"
	"deckle/state"
)

// everWritten keeps every byte that was ever written to a file, whether or not the file is still there.
type everWritten struct {
	vfs.FS
	mu    sync.Mutex
	bytes map[string]*strings.Builder // by the name under which a file was created
}

func (e *everWritten) keep(name string, p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bytes[name] == nil {
		e.bytes[name] = &strings.Builder{}
	}
	e.bytes[name].Write(p)
}

func (e *everWritten) watch(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return writtenFile{f, func(p []byte) { e.keep(name, p) }}, nil
}

func (e *everWritten) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := e.FS.Create(name, c)
	return e.watch(name, f, err)
}

func (e *everWritten) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := e.FS.OpenReadWrite(name, c, o...)
	return e.watch(name, f, err)
}

func (e *everWritten) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := e.FS.ReuseForWrite(from, to, c)
	return e.watch(to, f, err)
}

// Unwrap gives nobody the file system below, which is not watched.
func (e *everWritten) Unwrap() vfs.FS { return nil }

type writtenFile struct {
	vfs.File
	keep func([]byte)
}

func (f writtenFile) Write(p []byte) (int, error) {
	f.keep(p)
	return f.File.Write(p)
}

func (f writtenFile) WriteAt(p []byte, off int64) (int, error) {
	f.keep(p)
	return f.File.WriteAt(p, off)
}

// What a person has left in events. Those in session ids and names of fields come to every kind of file.
const (
	personOnDisk  = "session-of-jane.planted@example.org"
	titleOnDisk   = "How Jane Planted was born in Hamburg"
	addressOnDisk = "https://news.example/jane.planted?phone=4915112345678"
)

// TestOnDisk: with encryption, nothing that a person has left in events is in any byte that was ever written below
// the data folders of three nodes, one of which gets its state as a snapshot: log, tables, snapshots, temporary files.
// Without encryption the same search finds it in each of these places, so the search is one that finds.
func TestOnDisk(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{true, false} {
		t.Run(fmt.Sprintf("sealed=%v", sealed), func(t *testing.T) {
			t.Parallel()
			found := personOn(t, sealed)
			if sealed {
				for place, name := range found {
					t.Errorf("readable in %s, for example in %s", place, name)
				}
				return
			}
			for _, place := range []string{"wal", "tables", "staged"} {
				if found[place] == "" {
					t.Errorf("not found in %s, where it stands without encryption: this search proves nothing", place)
				}
			}
		})
	}
}

// personOn runs nodes, and returns the kinds of files that have something of a person, each with one of its files.
func personOn(t *testing.T, sealed bool) map[string]string {
	disk := &everWritten{FS: vfs.NewMem(), bytes: map[string]*strings.Builder{}}
	b := nodetest.NewBroker(t, 1)
	c := newCluster(t, b, 3, func(cfg *config.Config) {
		cfg.Cluster.Shards, cfg.Limits.DiskBytes = 1, 0
		if sealed {
			cfg.Encryption = keyFiles("key" + fmt.Sprint(1+int(cfg.Node[1]-'0')))
		}
	})
	c.fs = disk
	c.adapt = func(d *Deps) { d.LogBytes, d.SegmentBytes, d.CheckpointBytes = 16<<10, 4<<10, 4<<10 }
	for i := range 3 {
		c.start(i)
	}
	c.ready()
	sent := 0
	produce := func() {
		t.Helper()
		for range 10 {
			var rs []*kgo.Record
			for range 30 {
				v, err := json.Marshal(map[string]any{
					"event_id":   fmt.Sprintf("00000000-0000-4000-8000-%012x", sent),
					"session_id": fmt.Sprintf("%s-%d", personOnDisk, sent%40), "user_id": 7, "brand": "welt",
					"event_type": "article_view", "timestamp": time.Now().Unix(), "article_id": fmt.Sprint("a", sent),
					"article_title": titleOnDisk, "page_url": addressOnDisk,
				})
				if err != nil {
					t.Fatal(err)
				}
				rs = append(rs, &kgo.Record{Key: []byte(personOnDisk), Value: v})
				sent++
			}
			b.Produce(rs...)
			nodetest.Until(t, "applied", func() bool { return c.sum(applied) == int64(sent) })
		}
		nodetest.Until(t, "flushed", c.allAcked(state.SinkEvents, state.SinkSessions, state.SinkRevisions))
	}
	produce()
	leader, _, _ := c.leader(0)
	last := (max(leader, 0) + 1) % 3
	c.stop(last)
	if err := disk.RemoveAll(fmt.Sprint("data/n", last)); err != nil {
		t.Fatal(err)
	}
	produce()
	n := c.start(last)
	nodetest.Until(t, "it is a member again", func() bool { return n.Status().Ready })
	produce()
	for i := range 3 {
		c.stop(i)
	}
	found := map[string]string{}
	disk.mu.Lock()
	defer disk.mu.Unlock()
	for name, text := range disk.bytes {
		place := "other files"
		switch {
		case strings.Contains(name, "/staged-"):
			place = "staged"
		case strings.Contains(name, "/wal/"):
			place = "wal"
		case strings.HasSuffix(name, ".sst"):
			place = "tables"
		}
		for _, mark := range []string{personOnDisk, titleOnDisk, addressOnDisk, "jane.planted"} {
			if strings.Contains(text.String(), mark) {
				found[place] = name
			}
		}
		if sealed && !strings.HasSuffix(name, "/encryption.tmp") && !strings.HasPrefix(text.String(), "DKLCRYPT") {
			t.Errorf("%s was written without a seal: %.40q", name, text.String())
		}
	}
	return found
}
