package world

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"deckle/integration/services"
)

// batch is a batch in a segment: its offsets, and where it is in the file.
type batch struct {
	span
	at, size int64
}

// headerSize is the size of a batch's header, in front of the records.
const headerSize = 61

// batches reads the headers of a segment.
func batches(path string) (all []batch, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for at := int64(0); at+headerSize <= int64(len(b)); {
		h := b[at:]
		from := int64(binary.BigEndian.Uint64(h))
		size := 12 + int64(binary.BigEndian.Uint32(h[8:]))
		all = append(all, batch{span{from, from + int64(binary.BigEndian.Uint32(h[23:])) + 1}, at, size})
		at += size
	}
	return all, nil
}

// leader is the broker that leads a partition.
func (w *world) leader(topic string, p int32) *services.Broker {
	w.Helper()
	ts, err := w.admin.ListTopics(w.ctx, topic)
	w.must(err)
	id := ts[topic].Partitions[p].Leader
	for _, b := range w.brokers {
		if b.ID == id {
			return b
		}
	}
	w.Fatalf("%s/%d has the leader %d", topic, p, id)
	return nil
}

// flip flips one bit of the records of a batch in the middle of what a partition has from an offset on, in the leader's
// segment. mend flips it back.
func (w *world) flip(topic string, p int32, from int64) (broken batch, mend func()) {
	w.Helper()
	path := filepath.Join(w.leader(topic, p).Dir, fmt.Sprintf("%s-%d", topic, p), "00000000000000000000.log")
	all, err := batches(path)
	w.must(err)
	all = slices.DeleteFunc(all, func(b batch) bool { return b.from < from || b.size < headerSize+50 })
	if len(all) < 3 {
		w.Fatalf("%s/%d has only %d batches from %d on", topic, p, len(all), from)
	}
	broken = all[len(all)/2]
	mend = func() {
		w.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		w.must(err)
		one := make([]byte, 1)
		at := broken.at + headerSize + (broken.size-headerSize)/2
		_, err = f.ReadAt(one, at)
		w.must(err)
		one[0] ^= 0x10
		_, err = f.WriteAt(one, at)
		w.must(err)
		w.must(f.Close())
	}
	mend()
	w.Logf("%s/%d: a bit of the batch %d to %d is flipped", topic, p, broken.from, broken.to-1)
	return broken, mend
}

// trim deletes the records before an offset, as retention does.
func (w *world) trim(topic string, p int32, before int64) {
	w.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, p, before, -1)
	answers, err := w.admin.DeleteRecords(w.ctx, offsets)
	w.must(err)
	w.must(answers.Error())
	w.Logf("%s/%d begins at %d now", topic, p, before)
}

// skip gives the offsets of a partition up, by the command.
func (l *ledger) skip(p int32, from, to int64) {
	l.Helper()
	var out string
	// It is refused for a moment in which the partition is tried again, and neither fails nor is stopped.
	l.until("deckle partitions skip", time.Minute, func() (bool, any) {
		var err error
		out, err = l.deckle("partitions", "skip", "--config", l.cluster.Nodes[0].Config, "--partition", fmt.Sprint(p),
			"--from", fmt.Sprint(from), "--to", fmt.Sprint(to), "--reason", "test", "--yes")
		return err == nil, out
	})
	l.gaps[p] = append(l.gaps[p], span{from, to})
	l.Logf("%s", out)
}

// inSync waits until every partition has all of its replicas in sync.
func (w *world) inSync() {
	w.Helper()
	w.until("all replicas are in sync", 2*time.Minute, func() (bool, any) {
		ts, err := w.admin.ListTopics(w.ctx, topic)
		if err != nil {
			return false, err
		}
		for _, p := range ts[topic].Partitions {
			if len(p.ISR) < len(p.Replicas) {
				return false, p
			}
		}
		return len(ts[topic].Partitions) > 0, ts
	})
}

// moveLeaders makes another replica the preferred one of every partition, and elects it.
func (w *world) moveLeaders() {
	w.Helper()
	ts, err := w.admin.ListTopics(w.ctx, topic)
	w.must(err)
	var assign kadm.AlterPartitionAssignmentsReq
	set := kadm.TopicsSet{}
	for id, p := range ts[topic].Partitions {
		assign.Assign(topic, id, append(slices.Clone(p.Replicas[1:]), p.Replicas[0]))
		set.Add(topic, id)
	}
	answers, err := w.admin.AlterPartitionAssignments(w.ctx, assign)
	w.must(err)
	w.must(answers.Error())
	elected, err := w.admin.ElectLeaders(w.ctx, kadm.ElectPreferredReplica, set)
	w.must(err)
	moved := 0
	for _, p := range elected[topic] {
		if p.Err == nil {
			moved++
		}
	}
	w.Logf("%d of %d partitions have another leader", moved, len(ts[topic].Partitions))
}
