package shard

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"deckle/event"
	"deckle/node/kafka"
)

// proof is what shows that the log of a partition is the one that was read: its last record stands where it stood. It
// covers the connections and the leader epochs that were there when it was compared. What comes by later ones is held
// until it has been compared again.
type proof struct {
	offset     int64  // of the last record accepted that is no transaction marker
	hash       uint64 // its event.HashRecord; 0 if none is known: then there is nothing to compare
	given      bool   // in this run
	connection uint64 // the last one that is covered
	epoch      int32  // the last one that is covered
	asked      bool   // a comparison is under way
	from       uint64 // the last connection when it began
	held       []kafka.Part
	short      int // comparisons in a row that found the log too short
}

// remember takes the last record of a part that has been accepted.
func (f *proof) remember(rs []*kgo.Record) {
	for _, r := range slices.Backward(rs) {
		if !r.Attrs.IsControl() {
			f.offset, f.hash = r.Offset, event.HashRecord(r.Offset, r.Key, r.Value)
			return
		}
	}
}

// covers says that a part follows what has been compared. Of the epochs the last record has the greatest.
func (f *proof) covers(part *kafka.Part) bool {
	if f.hash == 0 {
		return true
	}
	return f.given && !f.asked && part.Connection <= f.connection &&
		part.Records[len(part.Records)-1].LeaderEpoch <= f.epoch
}

// proven says that nothing waits for a comparison.
func (f *proof) proven() bool { return f.hash == 0 || f.given && !f.asked && len(f.held) == 0 }

// replacedText says what to do about a log that is another one than the one that was read.
func replacedText(partition int32, next int64, err error) string {
	return fmt.Sprintf("%v. The broker has lost records that were read, and gives their offsets to others: it was "+
		"restored from a backup, or an unclean leader was elected. Nothing of the new records has been counted. If "+
		"the log that was read is put back, it goes on by itself, and at once with deckle partitions resume "+
		"--partition %[2]d. To go on with the log as it is: deckle partitions skip --partition %[2]d --to %[3]d; what "+
		"stands there below offset %[3]d and is new is not counted. To count all that the log has now: a new cluster "+
		"in empty folders", err, partition, next)
}

// shortText says what to do about a log that ends before what was read.
func shortText(partition int32, next int64, err error) string {
	return fmt.Sprintf("%v, but records up to %[3]d have been read: the log was cut or replaced. If the log that was "+
		"read is put back, it goes on by itself, and at once with deckle partitions resume --partition %[2]d. Once it "+
		"ends at %[3]d or later, what follows can be accepted as it is: deckle partitions skip --partition %[2]d --to "+
		"%[3]d", err, partition, next)
}
