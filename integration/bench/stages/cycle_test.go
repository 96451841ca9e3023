package stages

import (
	"context"

	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"deckle/event"
	"deckle/sim"
	"deckle/state"
)

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(0, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// the whole life of the state over epochs: fold, cut, two plans read, acked.
func BenchmarkCycle(b *testing.B) {
	const epochs, perEpoch = 10, 40 // entries of 3000
	g, err := sim.NewGenerator(sim.Options{Seed: 1, Sessions: 2000, Start: start}, 0)
	if err != nil {
		b.Fatal(err)
	}
	var ents [][]byte
	var d event.Decoder
	off := int64(0)
	for range epochs * perEpoch {
		e := &state.BatchEntry{Now: start.Add(time.Hour).UnixMilli()}
		e.Batch.Ranges = []event.Range{{From: off, To: off + perEntry, LeaderEpoch: 1}}
		e.Batch.Items = make([]event.Item, perEntry)
		for i := range perEntry {
			r, _ := g.Next()
			it := &e.Batch.Items[i]
			it.Offset, it.KafkaTimestamp = off, start.Add(time.Minute).UnixMilli()
			off++
			v := append([]byte(nil), r.Value...)
			d.Decode(v, it.KafkaTimestamp, &it.Event)
		}
		ents = append(ents, state.AppendBatch(nil, e))
	}
	for b.Loop() {
		b.StopTimer()
		dir, _ := os.MkdirTemp("", "cyc")
		st, err := state.Open(context.Background(), state.Options{FS: vfs.Default, Dir: dir + "/s"})
		if err != nil {
			b.Fatal(err)
		}
		s := &shard{Store: st, b: b}
		s.apply(state.EncodeConfig(state.Config{
			ClusterID: uuid.NewString(), Pipeline: "bench", Shards: 1, Topic: "t", Partitions: []int32{0}, Starts: []int64{0}, Sinks: []state.SinkID{state.SinkClickHouse, state.SinkSessions},
			IdleTimeout: 30 * time.Minute, Grace: 30 * time.Second, Retention: 6 * time.Hour,
		}))
		b.StartTimer()
		c0 := cpu()
		var planT time.Duration
		for e := range epochs {
			for _, x := range ents[e*perEpoch : (e+1)*perEpoch] {
				s.apply(x)
			}
			s.cut()
			if os.Getenv("PLAN") != "" {
				c1 := cpu()
				for _, id := range []state.SinkID{state.SinkClickHouse, state.SinkSessions} {
					p := s.plan(id)
					n := 0
					if err := p.Sessions(func(*state.SessionRow) error { n++; return nil }); err != nil {
						b.Fatal(err)
					}
					p.Close()
					s.apply(state.EncodeAck(id, p.B))
				}
				planT += cpu() - c1
			}
		}
		s.Checkpoint(context.Background())
		time.Sleep(300 * time.Millisecond)
		b.ReportMetric(float64((cpu()-c0).Nanoseconds())/float64(epochs*perEpoch*perEntry), "cpu-ns/event")
		b.ReportMetric(float64(planT.Nanoseconds())/float64(epochs*perEpoch*perEntry), "plan-ns/event")
		b.StopTimer()
		s.Close()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}
