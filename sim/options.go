package sim

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Faults are shares (0 to 1) of records that are made faulty; the package comment says what each fault is.
type Faults struct {
	Duplicates float64 // of all records of sessions
	Late       float64 // of counted events
	OutOfOrder float64 // of counted events
	Malformed  float64 // extra records, as a share of all
	TooLate    float64 // extra records, as a share of all
	Odd        float64 // of counted events: legal, but strange values
	Huge       float64 // of sessions: many events, each with some KB of engagement_metrics
	Readers    float64 // of sessions: unknown readers, those who log in later, known by a text, or two in one session
	Excluded   float64 // extra records with BotField, as a share of all: right only if the cluster has the rule
	Private    float64 // of sessions: personal data in every event: right only by FirstRules, or Truth.By
	KafkaTimes float64 // of the records of sessions: a Kafka time that says nothing
	Keys       float64 // of sessions: keys that lie, in the partition of the session all the same
	Doubtful   float64 // extra records that are refused, and name a reader all the same, as a share of all
}

// DefaultFaults are the faults of the demo: some of each kind. TooLate is right only if the cluster follows the
// stream, and Excluded only if it has a rule for BotField; Private needs FirstRules.
func DefaultFaults() Faults {
	return Faults{Duplicates: 0.01, Late: 0.005, OutOfOrder: 0.02, Malformed: 0.002, TooLate: 0.0005, Odd: 0.015,
		Readers: 0.3, Excluded: 0.002, KafkaTimes: 0.001}
}

// Options say what is produced. The zero value of a field means its default.
type Options struct {
	Topic     string        // default "web_clicks"
	KafkaOpts []kgo.Opt     // brokers, dialer, TLS, SASL; later options win over the producer's own
	Rate      float64       // records per second of all producers together; 0: as fast as possible
	Events    int64         // stop after this many records (the closing session_ends come on top); 0: no limit
	Duration  time.Duration // stop after this time; 0: no limit
	Sessions  int           // live at once, all producers together; default 2000
	Producers int           // clients side by side; default 1
	Seed      uint64

	EventsPerSession float64 // mean number of counted events per session (geometric); default 12
	Unkeyed          bool    // no record key, as the publisher's producers do it
	Grows            bool    // the topic may get more partitions: a key stays where it was first
	Sharded          bool    // the cluster has several shards: a record without a key is a dead letter
	Faults           Faults

	// Start, if set, replaces the clock: record i of a producer is made at Start + i / (its share of the rate; 2000
	// per second in all if Rate is 0), so that the same seed gives the same bytes.
	Start time.Time
	// Now is the clock if Start is not set; default time.Now.
	Now func() time.Time

	MaxBuffered  int           // records waiting in each client; default 10000
	DrainTimeout time.Duration // how long to wait until the closing records are acknowledged; default 60s

	// OnAck, if set, is called after each acknowledged record, by goroutines of the clients. It must be quick.
	OnAck func(rec *Record, partition int32, offset int64)
}

// Check returns what is wrong with the options, nil if nothing is. It does not ask the broker.
func (o Options) Check() error {
	_, err := o.complete()
	return err
}

func (o Options) complete() (Options, error) {
	if o.Topic == "" {
		o.Topic = "web_clicks"
	}
	if o.Sessions == 0 {
		o.Sessions = 2000
	}
	if o.Producers == 0 {
		o.Producers = 1
	}
	if o.EventsPerSession == 0 {
		o.EventsPerSession = 12
	}
	if o.MaxBuffered == 0 {
		o.MaxBuffered = 10000
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sessions < 0 || o.Producers < 0 || o.Rate < 0 || o.Events < 0 || o.Duration < 0 || o.EventsPerSession < 1 {
		return o, fmt.Errorf("sim: sessions, producers, rate, events and duration must not be negative, " +
			"events per session not below 1")
	}
	if o.Sessions < o.Producers {
		return o, fmt.Errorf("sim: %d live sessions cannot be shared by %d producers", o.Sessions, o.Producers)
	}
	f := &o.Faults
	for _, s := range []struct {
		of    string
		share float64
	}{{"duplicate", f.Duplicates}, {"late", f.Late}, {"out-of-order", f.OutOfOrder}, {"malformed",
		f.Malformed}, {"too-late", f.TooLate}, {"odd", f.Odd}, {"huge", f.Huge},
		{"readers'", f.Readers}, {"excluded", f.Excluded}, {"private", f.Private}, {"Kafka-time", f.KafkaTimes},
		{"lying", f.Keys}, {"doubtful", f.Doubtful}} {
		if !(s.share >= 0 && s.share <= 0.9) {
			return o, fmt.Errorf("sim: the share of %s records, %v, is not between 0 and 0.9", s.of, s.share)
		}
	}
	return o, nil
}

// Kind says what the generator meant a record to be.
type Kind uint8

// The kinds of records.
const (
	KindEvent Kind = iota
	KindEnd
	KindLate
	KindOutOfOrder
	KindDuplicate
	KindMalformed
	KindTooLate
	KindExcluded
	numKinds
)

// String returns the kind's name.
func (k Kind) String() string {
	return [...]string{"event", "end", "late", "out_of_order", "duplicate", "malformed", "too_late",
		"excluded", "invalid"}[min(k, numKinds)]
}

// Record is one record to be produced. Key and Value are not changed once returned; a duplicate shares them.
type Record struct {
	Key, Value []byte // Key is nil in unkeyed mode
	Kind       Kind
	Reason     string    // of the dead letter that it must become; "" if none
	Time       time.Time // its Kafka timestamp: the clock when it was made, or 1970
	SessionID  string    // of the session that it counts for; "" for malformed and too-late records
	Place      []byte    // what its partition follows from instead of Key; nil if the key does not lie
	Last       bool      // no further record of this session follows
}
