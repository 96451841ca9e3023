package event

// ID is an event's UUID in binary form.
type ID [16]byte

// Event is one decoded reader event. Strings may alias the buffer that it was decoded from: whoever keeps one longer
// than that buffer clones it.
type Event struct {
	ID        ID
	SessionID string // 1 to 64 bytes
	UserID    uint64 // at most 2^63-1, so that it fits a Delta long
	Type      Type
	Timestamp int64 // Unix seconds

	Brand, Category, ArticleID, ArticleTitle, ArticleType, PageURL, Referrer string
	DeviceType, DeviceOS, Browser, Country, City, Timezone                   string
	SubscriptionTier, UserSegment                                            string

	// JSON texts of objects as they came; "" when the field is missing, null or "".
	EngagementMetrics, Metadata string
	// Extra is a JSON object of the fields that the schema does not name; "" when there is none.
	Extra string

	// Measure is the one integer that the event's type contributes to its session, computed from EngagementMetrics by
	// the rule of docs/schema.md: whole seconds of time_on_page (article_view) or of playback_position (video_play),
	// millionths of ad_revenue (ad_click); 0 for other types.
	Measure uint64
	// Scroll is scroll_depth of an article_view, held to 0..100; 0 for other types.
	Scroll uint8
}

// Item is an accepted record: its event and its position.
type Item struct {
	Event
	Partition      int32
	Offset         int64
	KafkaTimestamp int64 // Unix milliseconds, as the broker has it
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

// Batch is what one Raft entry carries of the stream.
type Batch struct {
	Ranges  []Range  // ascending by partition, each partition at most once, none empty
	Items   []Item   // ascending by (partition, offset), each inside its partition's range
	Rejects []Reject // ascending by (partition, offset), each inside its partition's range
	Nulls   int64    // records without a value, skipped and counted
}
