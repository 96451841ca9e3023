package event

import "fmt"

// MaxRecord is the greatest length in bytes of a record's value; a longer one is TooLarge.
const MaxRecord = 1 << 20

// Reason says why a record is a dead letter. The numeric values are part of the encodings and never change.
type Reason uint8

// The reasons of docs/schema.md.
const (
	ReasonNone Reason = iota
	Malformed
	WrongType
	MissingField
	UnknownEventType
	BadTimestamp
	TooLarge
	NoKey
	TooLate
	SessionFull
	SinkRejected
	numReasons

	// Excluded is what Decode returns for a record that the rules leave out. It is no reason of a dead letter: the
	// record is in no row and no letter, and is counted. No encoding has it.
	Excluded Reason = 255
	// Suppressed is what Decode returns for a record of a reader on the list (Decoder.Suppress). It is no reason
	// either: a batch has its position in Suppressed.
	Suppressed Reason = 254
)

var reasonNames = [numReasons]string{
	"none", "malformed", "wrong_type", "missing_field", "unknown_event_type", "bad_timestamp", "too_large", "no_key",
	"too_late", "session_full", "sink_rejected",
}

// String returns the name of the reason in dead letters, metrics and logs.
func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	switch r {
	case Excluded:
		return "excluded"
	case Suppressed:
		return "suppressed"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Reasons returns every reason but ReasonNone, in order.
func Reasons() []Reason {
	rs := make([]Reason, 0, numReasons-1)
	for r := Malformed; r < numReasons; r++ {
		rs = append(rs, r)
	}
	return rs
}

// Valid says whether r is one of the reasons of docs/schema.md; ReasonNone, Excluded and Suppressed are none.
func (r Reason) Valid() bool { return r > ReasonNone && r < numReasons }
