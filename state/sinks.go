package state

// SinkID names a sink. The numeric values are part of the encodings and never change.
type SinkID uint8

// The sinks of docs/design.md §6; sinkTable says what each of them is.
const (
	SinkEvents SinkID = iota
	SinkSessions
	SinkRevisions
	SinkClickHouse
	SinkDeadLetter
	NumSinks
	NoSink = NumSinks
)

// Destination is the system that a sink writes to.
type Destination uint8

// The destinations.
const (
	ToDelta Destination = iota
	ToClickHouse
	ToKafka
)

// Reads is a set of the parts of an epoch that a sink's plan gives it.
type Reads uint8

// The parts of an epoch.
const (
	// ReadsEvents are the ranges of records, and the offsets that are left out of them.
	ReadsEvents Reads = 1 << iota
	// ReadsSessions are the newest images of all sessions that changed, open ones included.
	ReadsSessions
	// ReadsFirstClosed are the newest images of the sessions whose first closed image lies in the plan.
	ReadsFirstClosed
	// ReadsRevised are the newest images of sessions that changed after their first closed image, as far as the sink
	// that inserts those (After) has acknowledged it.
	ReadsRevised
	// ReadsRollups are the newest totals of the rollup keys that changed.
	ReadsRollups
	// ReadsLetters are the dead letters.
	ReadsLetters

	readsImages = ReadsSessions | ReadsFirstClosed | ReadsRevised | ReadsRollups
)

// SinkSpec is what the state and the node must know of a sink.
type SinkSpec struct {
	ID          SinkID
	Name        string // as it stands in metrics, logs and dead letters
	Destination Destination
	Reads       Reads
	// After is the sink that this one waits for: no plan ends past what After has acknowledged. NoSink if there is
	// none.
	After SinkID
	// Bounded says that a plan may end before the last closed epoch, so that the leader bounds it by its number of
	// events. Only a sink that reads nothing but events may be bounded: the images of an epoch that is not the last
	// closed one may be superseded and gone, and a plan that ends there would not hold every session and total as of
	// its end.
	Bounded bool
	// Measured says that the time from an event to its being visible in the sink is kept as a metric, and that the
	// offsets of the consumer group wait for the sink.
	Measured bool
	// Trails says that the sink works in passes with a pause between them, and so is behind by design: intake is not
	// paused for it.
	Trails bool
}

// sinkTable has a row for each sink.
var sinkTable = [NumSinks]SinkSpec{
	SinkEvents: {
		Name: "events", Destination: ToDelta, Reads: ReadsEvents, After: NoSink, Bounded: true, Measured: true,
	},
	SinkSessions: {
		Name: "sessions", Destination: ToDelta, Reads: ReadsFirstClosed, After: NoSink, Measured: true,
	},
	SinkRevisions: {
		Name: "revisions", Destination: ToDelta, Reads: ReadsRevised, After: SinkSessions, Trails: true,
	},
	SinkClickHouse: {
		Name: "clickhouse", Destination: ToClickHouse, Reads: ReadsSessions | ReadsRollups,
		After: NoSink, Measured: true,
	},
	SinkDeadLetter: {
		Name: "deadletter", Destination: ToKafka, Reads: ReadsLetters, After: NoSink,
	},
}

// Spec returns the sink's row of the table; that of a number which is no sink has the name "invalid" and nothing else.
func (s SinkID) Spec() SinkSpec {
	if s >= NumSinks {
		return SinkSpec{ID: s, Name: "invalid", After: NoSink}
	}
	spec := sinkTable[s]
	spec.ID = s
	return spec
}

// String returns the sink's name as it stands in metrics and logs.
func (s SinkID) String() string {
	if s >= NumSinks {
		return "invalid"
	}
	return sinkTable[s].Name
}

func (s SinkID) reads(parts Reads) bool { return sinkTable[s].Reads&parts != 0 }
