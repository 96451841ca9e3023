package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"deckle/node/status"
	"deckle/sim"
)

// openBroker starts the broker: with the log in its folder, if it keeps one, and with an empty one otherwise.
func (w *world) openBroker() (err error) {
	opts := []kfake.Opt{kfake.NumBrokers(len(brokerPorts)), kfake.Ports(brokerPorts...),
		kfake.ListenFn(func(_, addr string) (net.Listener, error) { return w.net.Listen("broker", addr) }),
		kfake.SeedTopics(w.opts.Partitions, topic)}
	if w.opts.BrokerDir != "" {
		opts = append(opts, kfake.DataDir(w.logDir()))
	}
	if w.broker, err = kfake.NewCluster(opts...); err == nil {
		w.broker.ControlKey(int16(kmsg.OffsetForLeaderEpoch), w.endsOfEmptyLogs)
	}
	return err
}

// endsOfEmptyLogs has the fake broker answer where the log of a partition ends that has no records any more. Of an
// epoch before the present one it says offset 0, for which a client takes records that it has read to be lost; a
// broker keeps where each epoch began, and says the log's end. Of the present epoch, which is asked for instead, the
// fake does.
func (w *world) endsOfEmptyLogs(req kmsg.Request) (kmsg.Response, error, bool) {
	topics := req.(*kmsg.OffsetForLeaderEpochRequest).Topics
	for i := range topics {
		for j := range topics[i].Partitions {
			p := &topics[i].Partitions[j]
			info := w.broker.PartitionInfo(topics[i].Topic, p.Partition)
			if info != nil && info.LogStartOffset == info.HighWatermark && p.LeaderEpoch < info.Epoch {
				p.LeaderEpoch = info.Epoch
			}
		}
	}
	return nil, nil, false
}

func (w *world) logDir() string { return filepath.Join(w.opts.BrokerDir, "log") }

// backup keeps a copy of the broker's log, for which the broker is stopped and started again.
func (w *world) backup() error {
	return w.withoutBroker(func() error {
		dir := filepath.Join(w.opts.BrokerDir, "backup")
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		return os.CopyFS(dir, os.DirFS(w.logDir()))
	})
}

// restore puts the backup in the place of the broker's log, which is kept.
func (w *world) restore() error {
	return w.withoutBroker(func() error {
		if err := os.Rename(w.logDir(), filepath.Join(w.opts.BrokerDir, "true")); err != nil {
			return err
		}
		return os.CopyFS(w.logDir(), os.DirFS(filepath.Join(w.opts.BrokerDir, "backup")))
	})
}

// putBack puts the log back that was there before restore.
func (w *world) putBack() error {
	return w.withoutBroker(func() error {
		if err := os.RemoveAll(w.logDir()); err != nil {
			return err
		}
		return os.Rename(filepath.Join(w.opts.BrokerDir, "true"), w.logDir())
	})
}

// withoutBroker does something while the broker is stopped.
func (w *world) withoutBroker(do func() error) error {
	w.broker.Close()
	w.net.Kill("broker")
	if err := do(); err != nil {
		return err
	}
	return w.openBroker()
}

// ends are the ends of the partitions, as the broker tells them.
func (w *world) ends(ctx context.Context) (map[int32]int64, error) {
	cl, err := kgo.NewClient(w.kafkaOpts("restorer")...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	listed, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends, nil
}

// writeOthers writes records that the truth does not know, one by one, until a partition ends at an offset.
func (w *world) writeOthers(ctx context.Context, partition int32, from, to int64) error {
	cl, err := kgo.NewClient(append(w.kafkaOpts("restorer"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableIdempotentWrite())...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for o := from; o < to; o++ {
		sid := fmt.Sprintf("other-%d-%d", partition, o)
		value := fmt.Sprintf(`{"event_id":"00000000-0000-4000-9000-%04x%08x","session_id":%q,"user_id":7,`+
			`"event_type":"search","timestamp":%d}`, partition, o, sid, time.Now().Unix())
		r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(sid), Value: []byte(value)}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}

// restoreBackup has an operator restore an older copy of the broker's log, and find out after a while: offsets that
// were read come again, with other records. Nothing of these may count. Then the log is put back, and the partitions
// that have stopped are told to go on.
func (w *world) restoreBackup(ctx context.Context) (heal func()) {
	if !w.oneBroker.TryLock() {
		return nothing
	}
	failed := func(err error) bool {
		if err != nil && ctx.Err() == nil {
			w.history.fail("restoring the broker's log: %v", err)
		}
		return err != nil
	}
	if failed(w.backup()) {
		w.oneBroker.Unlock()
		return nothing
	}
	saved, err := w.ends(ctx)
	_ = sim.Pause(ctx, w.rng.between(2*time.Second, 8*time.Second))
	// From here on nothing is written that the truth knows: it would be lost with the wrong log.
	write := w.cutFrom([]string{"sim"}, "broker")
	read := nothing
	if w.rng.IntN(2) == 0 { // nobody sees the log before it has grown past what was read
		read = w.cutFrom([]string{nodeName(0), nodeName(1), nodeName(2)}, "broker")
	}
	reused := map[int32]int64{} // by partition: up to where offsets were read that the backup does not have
	for p, end := range saved {
		if next := w.read(p); next > end {
			reused[p] = next
		}
	}
	w.history.fault("broker_restored", "the log ends at %v, and up to %v was read", saved, reused)
	if failed(err) || failed(w.restore()) {
		write()
		read()
		w.oneBroker.Unlock()
		return nothing
	}
	w.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic + ".dlq", Err: kerr.NotLeaderForPartition,
		Count: -1}, kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.CoordinatorLoadInProgress, Count: -1})
	for p := range w.opts.Partitions {
		if next, ok := reused[p]; ok {
			_ = failed(w.writeOthers(ctx, p, saved[p], next+1+int64(w.rng.IntN(10))))
		}
	}
	read()
	return func() {
		defer w.oneBroker.Unlock()
		if failed(w.putBack()) {
			return
		}
		write()
		w.resumeAll(context.WithoutCancel(ctx))
	}
}

// resumeAll lets partitions that have stopped be read again, until none of them is stopped for a while.
func (w *world) resumeAll(ctx context.Context) {
	quiet := 0
	for range 240 {
		if sim.Pause(ctx, 500*time.Millisecond) != nil || quiet > 20 {
			return
		}
		quiet++
		for _, m := range w.members {
			inc := m.current()
			if inc == nil {
				quiet = 0
				continue
			}
			for _, s := range inc.node.Status().Shards {
				for part := range s.Stopped {
					quiet = 0
					number, ok := strings.CutPrefix(part, "partition ")
					if n, err := strconv.Atoi(number); ok && err == nil {
						cctx, cancel := context.WithTimeout(ctx, 5*time.Second)
						_, _ = inc.node.Command(cctx, status.Command{Partition: int32(n), Resume: true})
						cancel()
					}
				}
			}
		}
	}
}
