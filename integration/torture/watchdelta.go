package main

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"deckle/integration/services"
	"deckle/sim/history"
	"deckle/sinks/delta"
	"deckle/sinks/delta/deletionvector"
	"deckle/sinks/delta/store"
)

// deltaWatch reads every version of the two Delta tables as soon as it is there, from the files of the log and not with
// Deckle's own reader: a version is a state that any reader may see.
type deltaWatch struct {
	client *minio.Client
	bucket string
	fresh  store.Store // for tables that are opened from their newest checkpoint

	events   *history.Events
	sessions *history.Sessions
	report   history.Report

	mu       sync.Mutex
	next     map[string]int64            // version that is read next, by table
	live     map[string]uint64           // sum of the hashes of the live paths
	digests  map[string]map[int64]uint64 // of each version
	probed   map[string]chan time.Time   // by what is waited for; receives the time when it was seen
	pending  []checkpointed              // snapshots whose version was not read yet
	replayed int64                       // snapshots that were equal to the versions read one by one
	merged   int64                       // versions that compaction has made
	hiding   int64                       // versions that hide rows by deletion vectors
	failures int64
	failed   error // the last failure
}

type checkpointed struct {
	table   string
	version int64
	digest  uint64
}

func newDeltaWatch(client *minio.Client, bucket string, fresh store.Store, report history.Report) *deltaWatch {
	return &deltaWatch{
		client: client, bucket: bucket, fresh: fresh, report: report,
		events: history.NewEvents(report), sessions: history.NewSessions(report),
		next: map[string]int64{}, live: map[string]uint64{}, probed: map[string]chan time.Time{},
		digests: map[string]map[int64]uint64{"events": {}, "sessions": {}},
	}
}

// pollDelta is the pause after the newest version has been read.
const pollDelta = 50 * time.Millisecond

// follow reads a table until ctx ends, and then up to the newest version.
func (w *deltaWatch) follow(ctx context.Context, table string) {
	for tries := 0; ; {
		more, err := w.step(context.WithoutCancel(ctx), table)
		if err != nil { // the store is down, or being restarted
			w.fail(err)
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			if tries++; err == nil || tries == 20*lastTries {
				return
			}
		default:
		}
		time.Sleep(pollDelta)
	}
}

func (w *deltaWatch) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures++
	w.failed = err
}

// step reads the next version, if it is there.
func (w *deltaWatch) step(ctx context.Context, table string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	w.mu.Lock()
	version := w.next[table]
	w.mu.Unlock()
	get := func(ctx context.Context, key string) ([]byte, error) {
		return services.ReadObject(ctx, w.client, w.bucket, key)
	}
	body, err := get(ctx, history.CommitKey(table, version))
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c, err := history.ReadCommit(ctx, table, version, body, get, w.hidden)
	if err != nil {
		return false, err
	}
	w.judge(table, c)
	return true, nil
}

// hidden reads a deletion vector. It implements history.Hidden.
func (w *deltaWatch) hidden(ctx context.Context, table string, vector json.RawMessage, rows int) (
	func(row int64) bool, error,
) {
	var v deletionvector.Descriptor
	if err := json.Unmarshal(vector, &v); err != nil {
		return nil, err
	}
	hidden, err := deletionvector.Read(ctx, w.fresh, table, &v)
	if err == nil {
		err = hidden.Fits(int64(rows))
	}
	return hidden.Has, err
}

// judge adds a version to the history and wakes those that wait for something in it.
func (w *deltaWatch) judge(table string, c *history.Commit) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if table == "events" {
		w.events.Commit(c)
	} else {
		w.sessions.Commit(c)
	}
	if c.Rearranges {
		w.merged++
	}
	if c.Hides {
		w.hiding++
	}
	for _, f := range c.Adds {
		w.live[table] += hashOf(f.Path)
		if len(w.probed) == 0 {
			continue
		}
		for i := range f.Rows {
			key := f.Rows[i].Session + " " + f.Rows[i].Origin
			if table == "events" {
				key = eventKey(f.Rows[i].Partition, f.Rows[i].Offset)
			}
			if ch, ok := w.probed[key]; ok {
				delete(w.probed, key)
				ch <- now
			}
		}
	}
	for _, path := range c.Removes {
		w.live[table] -= hashOf(path)
	}
	w.digests[table][c.Version] = w.live[table]
	w.next[table] = c.Version + 1
	w.comparePending()
}

func eventKey(partition int32, offset int64) string {
	return strconv.Itoa(int(partition)) + "/" + strconv.FormatInt(offset, 10)
}

func hashOf(path string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path)) // a hash never fails
	return h.Sum64()
}

// expect returns channels that receive the times when a record, and the session that it has opened, are first seen.
func (w *deltaWatch) expect(session string, partition int32, offset int64) (event, row <-chan time.Time) {
	e, r, at := make(chan time.Time, 1), make(chan time.Time, 1), eventKey(partition, offset)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.events.Has(partition, offset) {
		e <- time.Now()
	} else {
		w.probed[at] = e
	}
	if w.sessions.Has(session, at) {
		r <- time.Now()
	} else {
		w.probed[session+" "+at] = r
	}
	return e, r
}

// snapshot opens a table as a new reader would, from the newest checkpoint. The table must have the same files as the
// versions that were read one by one.
func (w *deltaWatch) snapshot(ctx context.Context, table string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	t, err := delta.OpenTable(ctx, w.fresh, table)
	if err != nil {
		return err
	}
	s := t.Snapshot()
	if s.Version < 0 {
		return nil
	}
	c := checkpointed{table: table, version: s.Version}
	for _, f := range s.Files {
		c.digest += hashOf(f.Path)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, c)
	w.comparePending()
	return nil
}

// comparePending compares the snapshots whose versions have been read by now.
func (w *deltaWatch) comparePending() {
	rest := w.pending[:0]
	for _, c := range w.pending {
		switch digest, ok := w.digests[c.table][c.version]; {
		case !ok:
			rest = append(rest, c)
		case digest != c.digest:
			w.report("delta."+c.table,
				"version %d: the checkpoint and what follows have other files than the versions one by one", c.version)
		default:
			w.replayed++
		}
	}
	w.pending = rest
}

// snapshots looks at both tables from time to time until ctx ends.
func (w *deltaWatch) snapshots(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, table := range []string{"events", "sessions"} {
				if err := w.snapshot(ctx, table); err != nil {
					w.fail(err)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}
