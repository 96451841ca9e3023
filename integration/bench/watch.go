package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"deckle/integration/services"
	"deckle/sim"
	"deckle/sinks/clickhouse"
	"deckle/sinks/delta/deltalog"
)

// pollEvery is the time between two looks at a sink; times of visibility are exact to this.
const pollEvery = 25 * time.Millisecond

// span is the records that a data file of the Delta table events, or one of its row groups, has of a partition.
type span struct {
	partition int32
	from, to  int64     // offsets, both included
	epoch     uint64    // of the shard's txn in the commit: the records are of this epoch or earlier ones
	at        time.Time // when the commit was read
}

// reached says when the ledger of a shard was first seen at an epoch.
type reached struct {
	epoch uint64
	at    time.Time
}

// watch reads what becomes visible: every commit of the Delta table events, as soon as its file is in the log, and
// ClickHouse's ledger, whose row of an epoch is written after everything else of the epoch.
//
// It needs one partition per shard: then the bounds in a file's statistics name its records exactly; of a file with
// rows of several shards those of its row groups do. It checks that they follow one another without a gap, and that
// each has as many rows as its bounds span.
type watch struct {
	store  *minio.Client
	prefix string
	click  *clickhouse.Reader

	mu      sync.Mutex
	spans   []span
	next    map[int32]int64 // the offset that is expected next, by partition
	ledger  map[uint32][]reached
	version int64 // of the commit that is read next
	err     error // what makes the measurement wrong
	last    error // the last failed read, which is tried again

	stop context.CancelFunc
	done sync.WaitGroup
}

// follow starts to watch the tables of a cluster.
func (c *cluster) follow(ctx context.Context) (*watch, error) {
	h := &watch{prefix: c.name, next: map[int32]int64{}, ledger: map[uint32][]reached{}}
	var err error
	if h.store, err = c.w.minio.Client(); err != nil {
		return nil, err
	}
	h.click, err = clickhouse.OpenReader(ctx, clickhouse.Options{
		Address: c.w.click.Addr, Database: c.name, User: c.w.click.User,
		Password: c.w.click.Password,
	})
	if err != nil {
		return nil, err
	}
	ctx, h.stop = context.WithCancel(ctx)
	for _, look := range []func(context.Context) (bool, error){h.commit, h.positions} {
		h.done.Go(func() {
			for ctx.Err() == nil {
				more, err := look(ctx)
				if err != nil {
					h.mu.Lock()
					h.last = err
					h.mu.Unlock()
				}
				if !more && sim.Pause(ctx, pollEvery) != nil {
					return
				}
			}
		})
	}
	return h, nil
}

func (h *watch) end() error {
	h.stop()
	h.done.Wait()
	return h.click.Close()
}

// positions looks at the ledger.
func (h *watch) positions(ctx context.Context) (bool, error) {
	p, err := h.click.Positions(ctx)
	if err != nil {
		return false, err
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for shard, b := range p {
		if l := h.ledger[shard]; len(l) == 0 || l[len(l)-1].epoch < b {
			h.ledger[shard] = append(l, reached{b, now})
		}
	}
	return false, nil
}

// commit reads the next version of the table events, if it is there.
func (h *watch) commit(ctx context.Context) (bool, error) {
	path := fmt.Sprintf("%s/events/_delta_log/%020d.json", h.prefix, h.version)
	body, err := services.ReadObject(ctx, h.store, bucket, path)
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now := time.Now()
	c, err := parseCommit(body)
	if err != nil {
		return false, fmt.Errorf("version %d: %w", h.version, err)
	}
	if err := h.split(ctx, c); err != nil {
		return false, fmt.Errorf("version %d: %w", h.version, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.version++
	h.err = errors.Join(h.err, h.add(c, now))
	return true, nil
}

// split puts row groups in the place of files with rows of several partitions.
func (h *watch) split(ctx context.Context, c *deltaCommit) error {
	var adds []addedFile
	for _, a := range c.adds {
		if a.lo.Partition == a.hi.Partition {
			adds = append(adds, a)
			continue
		}
		data, err := services.ReadObject(ctx, h.store, bucket, h.prefix+"/events/"+a.path)
		if err != nil {
			return err
		}
		groups, err := groupsOf(data)
		if err != nil {
			return fmt.Errorf("%s: %w", a.path, err)
		}
		adds = append(adds, groups...)
	}
	c.adds = adds
	return nil
}

// groupsOf returns the row groups of a data file of events as if each were a file.
func groupsOf(data []byte) (groups []addedFile, err error) {
	f, err := deltalog.OpenParquet(data)
	if err != nil {
		return nil, err
	}
	for _, g := range f.Metadata().RowGroups {
		a := addedFile{rows: g.NumRows, size: g.TotalCompressedSize}
		found := 0
		for _, column := range g.Columns {
			lo, hi := column.MetaData.Statistics.MinValue, column.MetaData.Statistics.MaxValue
			switch name := column.MetaData.PathInSchema[0]; {
			case name == "kafka_partition" && len(lo) == 4 && len(hi) == 4:
				a.lo.Partition = int32(binary.LittleEndian.Uint32(lo))
				a.hi.Partition = int32(binary.LittleEndian.Uint32(hi))
				found++
			case name == "kafka_offset" && len(lo) == 8 && len(hi) == 8:
				a.lo.Offset = int64(binary.LittleEndian.Uint64(lo))
				a.hi.Offset = int64(binary.LittleEndian.Uint64(hi))
				found++
			}
		}
		if found != 2 {
			return nil, errors.New("a row group without bounds of partition and offset")
		}
		groups = append(groups, a)
	}
	return groups, nil
}

// add notes a commit that was read at the time now. It is called with the lock held.
func (h *watch) add(c *deltaCommit, now time.Time) error {
	slices.SortFunc(c.adds, func(a, b addedFile) int {
		return cmp.Or(cmp.Compare(a.lo.Partition, b.lo.Partition), cmp.Compare(a.lo.Offset, b.lo.Offset))
	})
	for _, a := range c.adds {
		s := span{
			partition: a.lo.Partition, from: a.lo.Offset, to: a.hi.Offset,
			epoch: c.txns[txnKey{uint32(a.lo.Partition), "events"}], at: now,
		}
		switch {
		case a.lo.Partition != a.hi.Partition || a.rows != s.to-s.from+1:
			return fmt.Errorf("a file of %d rows spans %d/%d to %d/%d: its records cannot be told",
				a.rows, a.lo.Partition, a.lo.Offset, a.hi.Partition, a.hi.Offset)
		case s.from != h.next[s.partition]:
			return fmt.Errorf("partition %d goes on at %d, %d was expected", s.partition, s.from, h.next[s.partition])
		case s.epoch == 0:
			return fmt.Errorf("partition %d: no txn of its shard is in the commit", s.partition)
		}
		h.next[s.partition] = s.to + 1
		h.spans = append(h.spans, s)
	}
	return nil
}

// all waits until everything that was produced is visible in Delta and in ClickHouse.
func (h *watch) all(ctx context.Context, made [][]int64) error {
	for {
		missing, last, err := h.missing(made)
		if err != nil || missing == 0 {
			return err
		}
		if err := sim.Pause(ctx, sampleEvery); err != nil {
			return fmt.Errorf("bench: %d records are not visible yet: %w (last failed read: %w)", missing, err, last)
		}
	}
}

func (h *watch) missing(made [][]int64) (n int64, last, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, times := range made {
		n += int64(len(times)) - h.next[int32(p)]
	}
	for _, s := range h.spans {
		if _, ok := h.clickAt(s); !ok {
			n += s.to - s.from + 1
		}
	}
	return n, h.last, h.err
}

// clickAt returns the time when the ledger was first seen to cover a span.
func (h *watch) clickAt(s span) (time.Time, bool) {
	l := h.ledger[uint32(s.partition)]
	i, _ := slices.BinarySearchFunc(l, s.epoch, func(r reached, e uint64) int { return cmp.Compare(r.epoch, e) })
	if i == len(l) {
		return time.Time{}, false
	}
	return l[i].at, true
}

// delays are the times from production to visibility, in milliseconds, ascending.
type delays []int64

// delays returns the delays of all records that were made between two times.
func (h *watch) delays(made [][]int64, from, to time.Time) (events, click delays, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.spans {
		at, ok := h.clickAt(s)
		if !ok {
			return nil, nil, fmt.Errorf("bench: epoch %d of shard %d is not in the ledger", s.epoch, s.partition)
		}
		for _, m := range made[s.partition][s.from : s.to+1] {
			if m >= from.UnixMilli() && m < to.UnixMilli() {
				events = append(events, s.at.UnixMilli()-m)
				click = append(click, at.UnixMilli()-m)
			}
		}
	}
	if len(events) == 0 {
		return nil, nil, errors.New("bench: no record was made in the window")
	}
	slices.Sort(events)
	slices.Sort(click)
	return events, click, nil
}

// seconds returns the delay that the share q of all delays does not exceed.
func (d delays) seconds(q float64) float64 {
	return float64(d[max(int(math.Ceil(q*float64(len(d))))-1, 0)]) / 1e3
}

// deltaCommit has the parts of a commit that are read here.
type deltaCommit struct {
	txns    map[txnKey]uint64 // epoch
	adds    []addedFile
	removes int64 // files
}

type txnKey struct {
	shard uint32
	kind  string // of change: events, sessions, sessions.revisions
}

type addedFile struct {
	rows, size int64
	path       string
	lo, hi     bounds            // of table events
	origins    []deltalog.Origin // by the tags: the epochs of its commit, or of the older file that it replaces
}

type bounds struct {
	Partition int32 `json:"kafka_partition"`
	Offset    int64 `json:"kafka_offset"`
}

// inserts reports whether a file of sessions has rows of a plan of the commit.
func (c *deltaCommit) inserts(a addedFile) bool {
	return slices.ContainsFunc(a.origins, func(o deltalog.Origin) bool {
		return o.To == c.txns[txnKey{o.Shard, "sessions"}]
	})
}

func parseCommit(body []byte) (*deltaCommit, error) {
	c := &deltaCommit{txns: map[txnKey]uint64{}}
	for line := range bytes.Lines(body) {
		var a struct {
			Txn *struct {
				AppID   string `json:"appId"`
				Version uint64 `json:"version"`
			} `json:"txn"`
			Add *struct {
				Path  string            `json:"path"`
				Size  int64             `json:"size"`
				Stats string            `json:"stats"`
				Tags  map[string]string `json:"tags"`
			} `json:"add"`
			Remove *struct{} `json:"remove"`
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, err
		}
		switch {
		case a.Txn != nil: // cluster/pipeline/shard/kind
			id := strings.Split(a.Txn.AppID, "/")
			if len(id) != 4 {
				return nil, fmt.Errorf("application id %q", a.Txn.AppID)
			}
			shard, err := strconv.ParseUint(id[2], 10, 32)
			if err != nil {
				return nil, err
			}
			c.txns[txnKey{uint32(shard), id[3]}] = a.Txn.Version
		case a.Remove != nil:
			c.removes++
		case a.Add != nil:
			var s struct {
				Rows int64  `json:"numRecords"`
				Min  bounds `json:"minValues"`
				Max  bounds `json:"maxValues"`
			}
			if err := json.Unmarshal([]byte(a.Add.Stats), &s); err != nil {
				return nil, fmt.Errorf("statistics: %w", err)
			}
			c.adds = append(c.adds, addedFile{
				rows: s.Rows, size: a.Add.Size, path: a.Add.Path, lo: s.Min, hi: s.Max,
				origins: deltalog.OriginsOf(a.Add.Tags),
			})
		}
	}
	return c, nil
}
