package kafka

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/nodetest"
	"deckle/sim/testworld/badbatch"
	"deckle/state"
)

// A partition that has stopped may go on only where the last record that was applied is still there and the next offset
// can be read. Each of the other logs would have records that were never applied behind the next offset's back.
func TestUnchanged(t *testing.T) {
	var values [][]byte
	for i := range 12 {
		values = append(values, nodetest.EventJSON("s", i, "search"))
	}
	records := func(n int) (rs []*kgo.Record) {
		for _, v := range values[:n] {
			rs = append(rs, &kgo.Record{Key: []byte("s"), Value: v})
		}
		return rs
	}
	hash := func(i int) uint64 { return event.HashRecord(int64(i), []byte("s"), values[i]) }
	at := func(next, last int64, hash uint64) state.PartitionStatus {
		return state.PartitionStatus{Next: next, LeaderEpoch: -1, LastOffset: last, LastHash: hash}
	}
	for _, c := range []struct {
		name  string
		n     int // records in the log
		start int64
		p     state.PartitionStatus
		want  error
	}{
		{"the same log", 12, 0, at(10, 9, hash(9)), nil},
		{"nothing is to be read yet", 10, 0, at(10, 9, hash(9)), nil},
		{"no record is known", 12, 0, at(10, 0, 0), ErrUnproven},
		{"a log that was cut and has grown again", 12, 0, at(10, 9, hash(8)), ErrReplaced},
		{"one that was cut behind the record and has grown again", 12, 0, at(11, 9, hash(9)), ErrReplaced},
		{"the record went with retention", 12, 10, at(10, 9, hash(9)), ErrUnproven},
		{"the next one, too", 12, 11, at(10, 9, hash(9)), ErrUnproven},
		{"a log that ends before", 5, 0, at(10, 9, hash(9)), ErrShort},
		{"a log that ends behind the record, and before the next offset", 10, 0, at(12, 9, hash(9)), ErrShort},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := nodetest.NewBroker(t, 1)
			b.Produce(records(c.n)...)
			if err := b.DeleteRecords(nodetest.Topic, 0, c.start); err != nil {
				t.Fatal(err)
			}
			cl := clientOf(b)
			cl.quiet = time.Second
			err := cl.Unchanged(nodetest.Context(t), [16]byte{}, c.p)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	b := nodetest.NewBroker(t, 1)
	b.Produce(records(12)...)
	err := clientOf(b).Unchanged(nodetest.Context(t), [16]byte{9}, at(10, 9, hash(9)))
	if !errors.Is(err, ErrRecreated) {
		t.Errorf("another topic of that name: %v", err)
	}
}

// The record is there, but the next offset cannot be read: to go on would stop the partition again.
func TestUnchangedButUnreadable(t *testing.T) {
	b := nodetest.NewBroker(t, 1)
	rs := records(b, 0, 4)
	var broken badbatch.Broken
	c := opened(t, through(b, &broken))
	c.quiet = time.Second
	k := knownOf(rs[2])
	p := state.PartitionStatus{Next: k.Next, LeaderEpoch: -1, LastOffset: k.Offset, LastHash: k.Hash}
	broken.Spoil(0, 3, badbatch.Flip)
	if err := c.Unchanged(nodetest.Context(t), [16]byte{}, p); err == nil || errors.Is(err, ErrUnproven) {
		t.Errorf("the batch at the next offset is broken: %v", err)
	}
	broken.Mend(0)
	if err := c.Unchanged(nodetest.Context(t), [16]byte{}, p); err != nil {
		t.Errorf("mended: %v", err)
	}
}
