package event

// Item is an accepted record: its event and its position.
type Item struct {
	Event
	Partition      int32
	Offset         int64
	KafkaTimestamp int64 // Unix milliseconds, as the broker stores it
}

// Range is a contiguous run of offsets [From, To) of one partition. Offsets inside it that carry no record
// (transaction markers, compacted or aborted records) are part of it.
type Range struct {
	Partition   int32
	From, To    int64
	LeaderEpoch int32 // of the last record, -1 if unknown
}

// Reject is a record that cannot be used.
type Reject struct {
	Partition      int32
	Offset         int64
	KafkaTimestamp int64 // Unix milliseconds
	Reason         Reason
	Detail         string // at most 256 bytes
	Length         int64  // bytes of the original value
	SHA256         [32]byte
}

// Batch is the part of the stream that one Raft entry carries.
type Batch struct {
	Ranges  []Range  // ascending by partition, each partition at most once, none empty
	Items   []Item   // ascending by (partition, offset), each inside its partition's range
	Rejects []Reject // ascending by (partition, offset), each inside its partition's range
	Nulls   int64    // records without a value, skipped and counted
}
