package delta

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"deckle/schema"
	"deckle/schema/level"
	"deckle/sim/testworld/objects"
	"deckle/sinks/delta/store"
	"deckle/state"
)

// counted is a store that counts requests and bytes.
type counted struct {
	store.Store
	requests, read, written atomic.Int64
}

func (c *counted) Put(ctx context.Context, key string, data []byte) error {
	c.requests.Add(1)
	c.written.Add(int64(len(data)))
	return c.Store.Put(ctx, key, data)
}

func (c *counted) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	c.requests.Add(1)
	c.written.Add(int64(len(data)))
	return c.Store.PutIfAbsent(ctx, key, data)
}

func (c *counted) PutStreamIfAbsent(ctx context.Context, key string, n int64, write func(io.Writer) error) error {
	c.requests.Add(1)
	c.written.Add(n)
	return c.Store.PutStreamIfAbsent(ctx, key, n, write)
}

func (c *counted) Get(ctx context.Context, key string) ([]byte, error) {
	data, err := c.Store.Get(ctx, key)
	c.requests.Add(1)
	c.read.Add(int64(len(data)))
	return data, err
}

func (c *counted) GetRange(ctx context.Context, key string, off int64, p []byte) (store.Range, error) {
	r, err := c.Store.GetRange(ctx, key, off, p)
	c.requests.Add(1)
	c.read.Add(int64(r.N))
	return r, err
}

// benchRow is a session whose row takes about as much as one of the simulator.
func benchRow(rng *rand.Rand, n int) schema.SessionRow {
	text := func(bytes int) string {
		b := make([]byte, bytes)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return fmt.Sprintf("%x", b)
	}
	r := schema.SessionRow{SessionID: text(16), Origin: fmt.Sprintf("0/%d", n), SessionDate: 19_000, FirstClosed: 1,
		Epoch: 1, BatchID: schema.BatchID(0, 1), UserID: rng.Uint64(), Brand: []string{"bild", "welt"}[n%2],
		City: []string{"Köln", "Berlin", "Wien"}[n%3], Country: "DE", Start: 1_650_000_000 + int64(n),
		End: 1_650_000_000 + int64(n) + rng.Int64N(3600), TotalEvents: rng.Uint32N(50), Categories: `["politics"]`,
		AdRevenueMicros: rng.Uint64N(1e6), Status: schema.StatusExpired, CreatedAt: 1_700_000_000_000 + int64(n)}
	pages := ""
	for range 4 {
		pages += fmt.Sprintf(`,{"event_type":"article_view","article_id":"a-%s","timestamp":%d}`, text(4),
			r.Start+rng.Int64N(3600))
	}
	r.PageEvents, r.ArticleIDs, r.ArticleTitles = "["+pages[1:]+"]", "[]", "[]"
	return r
}

// BenchmarkRevisionBytes writes new images of some rows of one file, spread evenly over it, with deletion vectors and
// without: what is read and written, in how many requests, and with how much CPU.
//
//	go test -run '^$' -bench RevisionBytes -benchtime 1x ./sinks/delta
func BenchmarkRevisionBytes(b *testing.B) {
	for _, size := range []int{8, 32, 128} {
		b.Run(fmt.Sprintf("%dMiB", size), func(b *testing.B) { benchRevisions(b, size) })
	}
}

// benchRevisions is BenchmarkRevisionBytes for a file of about so many MiB.
func benchRevisions(b *testing.B, size int) {
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	options := func(st store.Store) Options {
		opts := testOptions(st, rng)
		opts.RevisionFilesPerPass, opts.FileBytes, opts.largest = 0, 1<<40, 1<<40
		return opts
	}
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	write := func(mem store.Store, rows []schema.SessionRow) {
		d, err := Open(b.Context(), options(mem))
		check(err)
		check(d.Sessions().Write(b.Context(), sessionsPlan(state.SinkSessions, 0, 1, level.First, rows...)))
		check(d.Close())
	}
	fileOf := func(mem *objects.Mem) *File {
		tab, err := OpenTable(b.Context(), mem, "sessions")
		check(err)
		if n := len(tab.Snapshot().Files); n != 1 {
			b.Fatalf("%d files", n)
		}
		return tab.Snapshot().Files[0]
	}
	var rows []schema.SessionRow
	for n := range 10_000 {
		rows = append(rows, benchRow(rng, n))
	}
	sample := objects.NewMem(nil)
	write(sample, rows)
	want := int(int64(size) << 20 / (fileOf(sample).Size / 10_000))
	for n := len(rows); n < want; n++ {
		rows = append(rows, benchRow(rng, n))
	}
	whole := objects.NewMem(nil)
	write(whole, rows)
	file := fileOf(whole)
	for _, share := range []float64{0.001, 0.01, 0.1} {
		for _, vectors := range []bool{false, true} {
			name := fmt.Sprintf("%g%%/vectors=%t", 100*share, vectors)
			b.Run(name, func(b *testing.B) {
				for range b.N {
					b.StopTimer()
					mem := objects.NewMem(nil)
					for key, data := range whole.Contents() {
						mem.Overwrite(key, data)
					}
					c := &counted{Store: mem}
					opts := options(c)
					opts.DeletionVectors = vectors
					d, err := Open(b.Context(), opts)
					check(err)
					log, _ := d.Committer("sessions")
					if vectors { // a commit that a table has once
						_, err := log.GiveVectors(b.Context())
						check(err)
					}
					var images []schema.SessionRow
					for n := range int(share * float64(len(rows))) {
						r := rows[int(float64(n)/share)]
						r.Epoch, r.BatchID, r.Stands = 2, schema.BatchID(0, 2), true
						r.TotalEvents++
						r.Revision++
						images = append(images, r)
					}
					plan := sessionsPlan(state.SinkRevisions, 1, 2, level.First, images...)
					c.requests.Store(0)
					c.read.Store(0)
					c.written.Store(0)
					before := cpu(b)
					b.StartTimer()
					check(d.Revisions().Write(b.Context(), plan))
					b.StopTimer()
					used := cpu(b) - before
					check(d.Close())
					tab, err := OpenTable(b.Context(), mem, "sessions")
					check(err)
					hidden := int64(0)
					for _, f := range tab.Snapshot().Files {
						if f.Vector != nil {
							hidden += f.Vector.Cardinality
						}
					}
					if vectors && hidden != int64(len(images)) || tab.Snapshot().Records != int64(len(rows)) {
						b.Fatalf("%d rows are hidden, %d are there", hidden, tab.Snapshot().Records)
					}
					b.ReportMetric(float64(c.read.Load())/1e6, "MB-read")
					b.ReportMetric(float64(c.written.Load())/1e6, "MB-written")
					b.ReportMetric(float64(c.requests.Load()), "requests")
					b.ReportMetric(used.Seconds(), "CPU-s")
					b.ReportMetric(float64(file.Size)/1e6, "MB-file")
					b.ReportMetric(float64(len(images)), "rows")
				}
			})
		}
	}
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
