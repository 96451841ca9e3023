package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"deckle/sinks/delta/deltalog"
	"deckle/sinks/delta/history"
	"deckle/sinks/delta/store"
)

// TestS3Log: two nodes commit to one table on a real S3 server, each through a proxy that fails a request in six: it is
// refused, or done without an answer. The server is killed with SIGKILL meanwhile. Both write their own changes and,
// as two leaders of one shard do, the same ones with other files, each of which takes the place of the one before.
// Each change is in the log exactly once, whole, and everything that was acknowledged is there.
func TestS3Log(t *testing.T) {
	const changes, seed = 25, 7
	eachS3(t, func(t *testing.T, m *s3Server) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		var writers sync.WaitGroup
		for node := range 2 {
			st := m.open(t, m.disturbed(t, seed+uint64(node)).addr, "lake")
			l := openLog(t, ctx, st, node)
			defer func() { must(t, l.Close()) }()
			for _, app := range []string{fmt.Sprint("own-", node), "both"} {
				writers.Go(func() {
					for v := int64(1); v <= changes; v++ {
						if err := commitOne(ctx, l, st, app, node, v); err != nil {
							t.Errorf("node %d, change %d of %s: %v", node, v, app, err)
							return
						}
					}
				})
			}
		}
		done := make(chan struct{})
		go func() { writers.Wait(); close(done) }()
		for kills := 0; ; {
			select {
			case <-done:
				if kills == 0 {
					t.Error("the server was never killed")
				}
				checkS3Log(t, ctx, m.open(t, m.Addr, "lake"), changes)
				return
			case <-time.After(700 * time.Millisecond):
			}
			if kills < 3 {
				kills++
				must(t, m.Kill())
				time.Sleep(200 * time.Millisecond)
				must(t, m.Up(ctx))
			}
		}
	})
}

// disturbed is a proxy before the server that fails a request in six.
func (m *s3Server) disturbed(t *testing.T, seed uint64) *lossy {
	var mu sync.Mutex
	rng := mrand.New(mrand.NewPCG(seed, 1))
	counts := map[fault]int{}
	t.Cleanup(func() { t.Logf("faults: %v", counts) })
	p := startLossy(t, m.Addr)
	p.set(func(r *http.Request) fault {
		mu.Lock()
		defer mu.Unlock()
		f := pass
		switch n := rng.IntN(24); {
		case n == 0:
			f = slowDown
		case n == 1 && r.Header.Get("If-None-Match") != "":
			f = conflict
		case n == 2:
			f = lostAnswer
		case n == 3:
			f = cutAnswer
		}
		counts[f]++
		return f
	})
	return p
}

func openLog(t *testing.T, ctx context.Context, st store.Store, node int) *deltalog.Log {
	t.Helper()
	for {
		l, err := deltalog.Open(ctx, deltalog.Options{Store: st, Name: "t", KeepFiles: true, Rand: rand.Reader,
			Node: fmt.Sprint("n", node), CheckpointInterval: 5,
			Create: &deltalog.Creation{ClusterID: "c", Pipeline: "p", PartitionColumns: []string{"d"},
				Fields: []deltalog.Field{{Name: "k", Type: "string"}, {Name: "d", Type: "date"}}}})
		if err == nil {
			return l
		}
		t.Logf("opened again: %v", err)
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// commitOne makes a change until it is in the log. Of both, each replaces the file of the one before.
func commitOne(ctx context.Context, l *deltalog.Log, st store.Store, app string, node int, v int64) error {
	for attempt := 0; ; attempt++ {
		path := fmt.Sprintf("d=2026-01-01/%s-%d-%d-%d.parquet", app, v, node, attempt)
		err := st.PutIfAbsent(ctx, "t/"+path, []byte(path))
		if err == nil || errors.Is(err, store.ErrExists) {
			c := &deltalog.Change{Last: true, Rows: 1, Adds: []deltalog.Add{{Path: path,
				PartitionValues: map[string]string{"d": "2026-01-01"}, Size: int64(len(path)), DataChange: true,
				Stats: `{"numRecords":1}`}}}
			l.View(func(s *deltalog.Snapshot) {
				c.Parts = []deltalog.Part{s.Part(app, v)}
				for _, f := range s.SortedFiles() {
					var version, n, try int64
					_, _ = fmt.Sscanf(f.Path, "d=2026-01-01/both-%d-%d-%d.parquet", &version, &n, &try)
					if app == "both" && version != 0 {
						c.Removes = append(c.Removes, f.Path)
					}
				}
			})
			err = l.Submit(ctx, c)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		select { // a flusher waits, too
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// checkS3Log reads the whole log as a reader, and looks for each change.
func checkS3Log(t *testing.T, ctx context.Context, st store.Store, changes int64) {
	tab, err := history.Open(ctx, st, "t")
	must(t, err)
	at, live := map[string]int64{}, map[string]bool{}
	for i, v := range tab.Versions() {
		if v != int64(i) {
			t.Fatalf("version %d is missing", i)
		}
		c, err := tab.Commit(ctx, v)
		must(t, err)
		for _, x := range c.Txns {
			if x.Version != at[x.AppID]+1 {
				t.Errorf("version %d has change %d of %s after %d", v, x.Version, x.AppID, at[x.AppID])
			}
			at[x.AppID] = x.Version
		}
		if v > 0 && len(c.Adds) != len(c.Txns) {
			t.Errorf("version %d has %d files for %d changes", v, len(c.Adds), len(c.Txns))
		}
		for _, r := range c.Removes {
			delete(live, r.Path)
		}
		for _, a := range c.Adds {
			live[a.Path] = true
		}
	}
	for _, app := range []string{"own-0", "own-1", "both"} {
		if at[app] != changes {
			t.Errorf("%s ends with change %d, want %d", app, at[app], changes)
		}
	}
	if len(live) != int(2*changes+1) {
		t.Errorf("%d files are live, want those of 2 × %d changes and one: %v", len(live), changes, live)
	}
	r, err := tab.Check(ctx, history.CheckOptions{})
	must(t, err)
	for _, f := range r.Findings {
		t.Errorf("fsck: %+v", f)
	}
	t.Logf("%d versions, %d checkpoints", len(tab.Versions()), len(tab.Checkpoints()))
}
