package event

import "math/bits"

// Item is an accepted record: its event and its position.
type Item struct {
	Event
	Partition      int32
	Offset         int64
	KafkaTimestamp int64 // Unix milliseconds, as Rules.KafkaTime returns it
	// Key says what the record's Kafka key is, and KeyHash, for KeyOther, is a hash of it (SetKey).
	Key     KeyClass
	KeyHash uint32
}

// Range is a contiguous run of offsets [From, To) of one partition. Offsets inside it that carry no record
// (transaction markers, compacted or aborted records) are part of it.
type Range struct {
	Partition   int32
	From, To    int64
	LeaderEpoch int32 // of the last record, -1 if unknown
}

// Seen is what a leader saw of a partition beside the items and rejects of a range.
type Seen struct {
	// KafkaTime is the greatest Kafka timestamp of the range's records of any verdict, in Unix milliseconds,
	// NoKafkaTime if none of them has one that can be true.
	KafkaTime int64
	// AtHead says that the fetches of the partition have reached the end of its log lately.
	AtHead bool
	// LastHash is the HashRecord of the range's last record, at LastOffset; both are 0 if it has none.
	LastOffset int64
	LastHash   uint64
}

// Reject is a record that cannot be used.
type Reject struct {
	Partition      int32
	Offset         int64
	KafkaTimestamp int64 // Unix milliseconds, as Rules.KafkaTime returns it
	Reason         Reason
	Detail         string // at most 256 bytes
	Length         int64  // bytes of the original value
	SHA256         [32]byte
	// Withheld says that the letter shows nothing of the record, and is without Length and SHA256: nobody could tell
	// that the record is of no reader on the list of suppressed ones (level.Guarded).
	Withheld bool `json:",omitempty"`
}

// SuppressedRecord is a record that is left out because its reader is on the list.
type SuppressedRecord struct {
	Partition int32
	Offset    int64
	By        SuppressKind
}

// Batch is the part of the stream that one Raft entry carries.
type Batch struct {
	Ranges  []Range  // ascending by partition, each partition at most once, none empty
	Seen    []Seen   // of each range, in the same order; empty at level.First
	Items   []Item   // ascending by (partition, offset), each inside its partition's range
	Rejects []Reject // ascending by (partition, offset), each inside its partition's range
	Nulls   int64    // records without a value, skipped and counted
	Rules   uint32   // the number of the rules that the records were decoded with
	Counts  Counts

	// From level.Guarded on: the number of the list of suppressed readers that the records were judged by, and the
	// records left out by it, ascending by (partition, offset), each inside its partition's range.
	List       uint64
	Suppressed []SuppressedRecord
}

// Counts are what is counted of the records of a batch and stands in none of its items and rejects.
type Counts struct {
	Excluded []int64 // records left out, by exclude rule, up to the last that left one out
	Skipped  int64   // records left out because their type is unknown
	// Unconsented are the records left out because Rules.Consent asks for more than they have. A batch carries it from
	// level.Guarded on.
	Unconsented int64
	KafkaTimes  int64             // records whose Kafka timestamp is missing or cannot be true
	Zeroed      [NumMetrics]int64 // values that are no number and count as 0, by field (MetricNames)
}

// Reset sets all counts to 0 and keeps the memory.
func (c *Counts) Reset() { *c = Counts{Excluded: c.Excluded[:0]} }

// Add adds the counts of o.
func (c *Counts) Add(o *Counts) {
	for i, n := range o.Excluded {
		c.exclude(i, n)
	}
	c.Skipped += o.Skipped
	c.Unconsented += o.Unconsented
	c.KafkaTimes += o.KafkaTimes
	for k, n := range o.Zeroed {
		c.Zeroed[k] += n
	}
}

func (c *Counts) exclude(rule int, n int64) {
	for len(c.Excluded) <= rule {
		c.Excluded = append(c.Excluded, 0)
	}
	c.Excluded[rule] += n
}

// zero counts the fields whose bits are set.
func (c *Counts) zero(fields uint8) {
	for ; fields != 0; fields &= fields - 1 {
		c.Zeroed[bits.TrailingZeros8(fields)]++
	}
}
