package world

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/integration/services"
	"deckle/sim"
)

// codecs by the names that all three clients have for them.
var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// records makes n records, and those that end their sessions.
func (l *ledger) records(n int64, rate float64, f sim.Faults) (all []*sim.Record) {
	l.Helper()
	l.seed++
	gen, err := sim.NewGenerator(sim.Options{Seed: l.seed, Sessions: 10, Rate: rate, Faults: f,
		Start: time.Now().Truncate(time.Second)}, 0)
	l.must(err)
	for {
		if gen.Made() >= n {
			gen.Finish()
		}
		rec, ok := gen.Next()
		if !ok {
			return all
		}
		all = append(all, rec)
		l.made[string(rec.Value)] = rec
	}
}

// produce sends n records by each client with each codec, at a rate each, and returns when all are acknowledged.
func (l *ledger) produce(n int64, rate float64) {
	l.Helper()
	l.world.runs++
	faults := sim.Faults{Duplicates: 0.02, Late: 0.01, OutOfOrder: 0.02, Odd: 0.02, Readers: 0.3}
	var own sync.WaitGroup
	var mu sync.Mutex
	var failed error
	programs := map[string][]string{}
	for codec, compression := range codecs {
		for _, client := range []string{"java", "librdkafka"} {
			path := filepath.Join(l.dir, fmt.Sprintf("%s-%s-%d.txt", client, codec, l.world.runs))
			var text strings.Builder
			for _, rec := range l.records(n, rate, faults) {
				fmt.Fprintf(&text, "%s\t%s\n", rec.Key, rec.Value)
			}
			l.must(os.WriteFile(path, []byte(text.String()), 0o644))
			programs[client] = append(programs[client], codec+"="+path)
		}
		bad := faults
		bad.Malformed = 0.01
		records := l.records(n, rate, bad)
		own.Go(func() {
			if err := l.send(records, rate, kgo.ProducerBatchCompression(compression)); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = fmt.Errorf("franz-go, %s: %w", codec, err)
			}
		})
	}
	each := strconv.FormatFloat(rate, 'f', -1, 64)
	script, err := filepath.Abs("produce.py")
	l.must(err)
	var ps []*services.Process
	for client, streams := range programs {
		args := []string{"java", "-Xmx128m", "-XX:+UseSerialGC", "-cp", l.classes, "Produce"}
		if client == "librdkafka" {
			args = []string{l.python, script}
		}
		args = append(append(args, l.brokers.Addr(), l.topic, each), streams...)
		p := services.NewProcess(client, l.dir, nil, args...)
		l.must(p.Start())
		l.Cleanup(func() { l.check(p.Kill()) })
		ps = append(ps, p)
	}
	for _, p := range ps {
		select {
		case <-p.Done():
			if p.Err() != nil {
				l.Fatalf("%s: %v\n%s", p.Name, p.Err(), p.Tail(3000))
			}
		case <-l.ctx.Done():
			l.Fatalf("%s has not ended:\n%s", p.Name, p.Tail(3000))
		}
	}
	own.Wait()
	l.must(failed)
}

// send produces records by a client of the test's own.
func (l *ledger) send(records []*sim.Record, rate float64, opts ...kgo.Opt) error {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(l.brokers.Addr(), ",")...), kgo.DefaultProduceTopic(l.topic),
		kgo.ProducerLinger(50 * time.Millisecond), kgo.ProducerBatchMaxBytes(2 << 20),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.AlwaysRetryEOF(), // a broker may just have been killed
	}, opts...)...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancelCause(l.ctx)
	defer cancel(nil)
	began := time.Now()
	for i, rec := range records {
		client.Produce(ctx, &kgo.Record{Key: rec.Key, Value: rec.Value, Timestamp: rec.Time},
			func(_ *kgo.Record, err error) {
				if err != nil {
					cancel(err)
				}
			})
		due := began.Add(time.Duration(float64(i+1) / rate * float64(time.Second)))
		if err := sim.Pause(ctx, time.Until(due)); err != nil {
			return context.Cause(ctx)
		}
	}
	if err := client.Flush(ctx); err != nil {
		return context.Cause(ctx)
	}
	return context.Cause(ctx)
}
