package state

import (
	"errors"
	"fmt"
	"time"

	"deckle/event"
	"deckle/schema/level"
)

// Position is the place of a record in the shard's topic.
type Position struct {
	Partition int32
	Offset    int64
}

// Text returns "partition/offset".
func (p Position) Text() string { return fmt.Sprintf("%d/%d", p.Partition, p.Offset) }

// Config is what a shard is created with; it never changes. It is the first entry of the shard's log, so that Apply
// depends on nothing outside the log.
type Config struct {
	ClusterID   string
	Pipeline    string // the name of the job within the cluster; part of Delta's appId
	Shard       uint32
	Shards      uint32
	Topic       string
	TopicID     [16]byte
	Partitions  []int32 // the shard's partitions, ascending
	Starts      []int64 // for each of Partitions, the first offset to apply
	Sinks       []SinkID
	IdleTimeout time.Duration // event time; 30 min by default
	Grace       time.Duration // event time after closing; 30 s by default
	Retention   time.Duration // event time; 6 h by default
	MaxTimers   int           // the most timers that one entry fires; 5,000 by default
}

// BatchEntry is the leader's proposal to move the stream on, or, without ranges, a tick of the clock.
type BatchEntry struct {
	Batch event.Batch
	// Level is the level of the entry's form; 0 means level.First. An entry above the shard's level is refused.
	Level level.Level
	// Now is the leader's wall clock in Unix milliseconds. It is used only to hold watermarks down (docs/design.md §3,
	// clock).
	Now int64
	// Idle are the partitions that are idle now, ascending: a successful fetch has shown, for the idle time, that the
	// next offset is at the end of the partition.
	Idle []int32
	// Elapsed is the monotonic time since the leader's previous entry. The clock advances by it when all partitions are
	// idle.
	Elapsed time.Duration
	// Out are the partitions that are to be left out of the clock from this entry on, ascending (level 2): by the
	// leader's monotonic clock they have delivered nothing for Rules.LeaveOut, or nothing that has a time.
	Out []int32
}

// Progress is where one sink stands.
type Progress struct {
	Acked uint64 // every epoch up to this one is visible and durable in the sink
	// PlanA and PlanB are the outstanding plan's range (PlanA, PlanB]; PlanB is 0 when there is none.
	PlanA, PlanB uint64
}

// PartitionStatus is where one partition stands.
type PartitionStatus struct {
	Partition   int32
	Next        int64 // the next offset to apply
	LeaderEpoch int32 // of the last record that was applied, -1 if unknown
	Watermark   int64 // how far its time has come; Unix seconds, 0 if none
	Idle        bool

	// From level 2 on; all times are Unix seconds, 0 if none.
	EventWatermark int64 `json:",omitempty"` // the greatest event time seen, as far as it was not held down
	KafkaWatermark int64 `json:",omitempty"` // the greatest plausible Kafka time seen
	AcceptedKafka  int64 `json:",omitempty"` // the greatest Kafka time of an accepted record
	Out            bool  `json:",omitempty"` // the clock does not wait for it
	Hold           int64 `json:",omitempty"` // while it is out: the horizon stays the retention behind this
	// The last record applied: its offset and its event.HashRecord; 0 for both if none is known.
	LastOffset int64  `json:",omitempty"`
	LastHash   uint64 `json:",omitempty"`
}

// View is a copy of the shard's counters as of an applied index.
type View struct {
	Config      Config // with the partitions that the shard reads now
	Level       level.Level
	Rules       Rules
	Configured  bool
	Index, Term uint64
	Clock       int64 // Unix seconds of event time, 0 when unset
	Horizon     int64 // Unix seconds
	Partitions  []PartitionStatus
	// TopicPartitions is how many partitions the topic had as of the last Partitions entry, 0 if there was none (level
	// 5), and Founded how many the shard read when it was created.
	TopicPartitions int32
	Founded         int
	OpenEpoch       uint64
	LastClosed      uint64
	// LastChecksum is the checksum of epoch LastClosed, for the next Cut.
	LastChecksum uint64
	Sinks        [NumSinks]Progress
	// The open epoch so far.
	OpenEvents   int64 // records applied in the open epoch, whatever the verdict on them
	OpenSessions int64 // sessions that changed in the open epoch
	// The totals since the shard was created.
	Applied     int64 // events and session_ends that were accepted
	Counted     int64 // events that were accepted: Applied without the session_ends
	Duplicates  int64
	Nulls       int64
	DeadLetters map[event.Reason]int64
	// FullByBytes are those of the dead letters session_full that were refused for Rules.MaxSessionBytes.
	FullByBytes int64
	// MetricsOmitted are the counted events whose engagement_metrics are not in their session's row, because they are
	// longer than event.Rules.MaxMetricsBytes.
	MetricsOmitted int64
	RuleCounts     Counted // from level 2 on
	// KeyIDs are the HMAC keys that the present rules hash with, and those before them that a sink may still need
	// (level 3), each once.
	KeyIDs []event.KeyID
	Keys   KeyCounts
	// Suppress is what is known of the list of suppressed readers (level 3). Its salt is not: views are shown.
	Suppress SuppressInfo
	// Gaps are the gaps of each partition that has any. The map is shared: nobody may change it.
	Gaps map[int32]PartitionGaps
	// EventGaps are the gaps of raw events alone: what was applied, and cannot be fetched for their table any more. The
	// map is shared, too.
	EventGaps map[int32]PartitionGaps
	// The present state.
	LiveSessions int64 // sessions that can be looked up, of any status
	OpenStatus   int64 // those of LiveSessions that are open
	Resident     int64 // sessions in memory
	MemoryBytes  int64 // what the sessions in memory take, an estimate
	DirtyBytes   int64 // bytes changed since the last checkpoint
	DurableIndex uint64
	TimersDue    bool  // timers are due that the last entry was not allowed to fire: a tick must be proposed
	NextTimer    int64 // of the next timer, Unix seconds of event time; 0 when there is none
}

// BatchResult is what Apply returns for a BatchEntry.
type BatchResult struct {
	// Rejected says that the whole entry was refused, and Why for what. Next are then the stored offsets. Nothing was
	// changed.
	Rejected bool
	Why      BatchRefusal
	Next     []PartitionStatus
	// Left are the positions of the batch's items that were left out: duplicates, items that are too late, items of a
	// session that is full. Rejects and suppressed records are not among them.
	Left []Position
	// Epoch is the epoch that was open when the batch was applied.
	Epoch      uint64
	Applied    int64
	Duplicates int64
	Clock      int64
}

// BatchRefusal says for what a batch was refused as a whole.
type BatchRefusal uint8

// The refusals, and their order if several hold.
const (
	BatchTaken     BatchRefusal = iota // it was not refused
	BatchByLevel                       // it has the form of a level above the shard's
	BatchByRules                       // it was decoded with other rules than the present ones
	BatchByList                        // it was judged by another list of suppressed readers than the present one
	BatchByOffsets                     // a range does not start at the stored next offset, or is not the shard's
)

// String says what was wrong.
func (r BatchRefusal) String() string {
	return [...]string{"taken", "it has a higher level than the shard", "it was decoded by other rules",
		"it was judged by another list of suppressed readers", "the state is at other offsets"}[r]
}

// CutResult is what Apply returns for a Cut entry.
type CutResult struct {
	Epoch    uint64 // the epoch that was closed; 0 if the open epoch was empty, so that nothing was done
	Sessions int64  // images in the epoch
	Events   int64  // items applied in the epoch
	Checksum uint64
}

// PlanResult is what Apply returns for a Plan entry.
type PlanResult struct {
	A, B uint64 // the outstanding plan (A, B]; B = 0 if there is none, because nothing is closed past A
}

// Errors of the state machine that are the result of an entry, not a failure.
var (
	// ErrNotConfigured is returned for an entry before the Config entry.
	ErrNotConfigured = errors.New("state: shard is not configured")
	// ErrNoPlan is returned by OpenPlan when the sink has no outstanding plan.
	ErrNoPlan = errors.New("state: no outstanding plan")
)

// ErrDiverged says that this replica's last closed epoch differs from the leader's. The replica must not go on.
var ErrDiverged = errors.New("state: replica has diverged from the leader")

// ErrClosed says that the store is closed.
var ErrClosed = errors.New("state: store is closed")

// DeadLetter is a record, or a row that a sink refused, on its way to the dead letter topic.
type DeadLetter struct {
	event.Reject
	Seq   uint64
	Epoch uint64
	// For SinkRejected: the sink that refused, and the row that it refused.
	Sink   SinkID
	RowKey string
	Row    []byte // JSON
}

// EpochInfo is what is known of one closed epoch.
type EpochInfo struct {
	Epoch uint64
	Level level.Level
	Rules uint32 // the number of the rules that its records were decoded and judged with
	Clock int64  // the clock of the Cut, Unix milliseconds: CreatedAt of its images
	// Ranges are what was applied, ascending by (partition, from): one per partition, and one more after each gap.
	Ranges []event.Range
	Gaps   []Gap // what was given up (level 2), in the order in which that was decided
	// every offset of Ranges without a row in the events table: rejected, duplicate, too late, session_full or
	// suppressed
	LeftOut []Position
	Events  int64 // rows in the events table
	// Duplicates and Letters are the numbers of records that were left out as duplicates and as dead letters. Letters
	// counts refused rows, too.
	Duplicates, Letters int64
	// Suppressed is the number of records of suppressed readers (level 3). They are in LeftOut.
	Suppressed int64
	Sessions   int64 // images that have a row
	Checksum   uint64
}
