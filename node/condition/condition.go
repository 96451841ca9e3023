package condition

import (
	"cmp"
	"fmt"
	"time"
)

// Severity says how bad a condition is.
type Severity uint8

// The severities, from the mildest to the gravest. The zero value is none: Set takes the severity of the table for it.
const (
	_        Severity = iota
	Notice            // somebody may want to know
	Degraded          // it works, but not as it should, or not for long
	Failing           // it does not work, and is being retried
	Stopped           // it waits for an operator
)

var severityNames = [...]string{"", "notice", "degraded", "failing", "stopped"}

// Severities lists all of them, the mildest first.
func Severities() []Severity { return []Severity{Notice, Degraded, Failing, Stopped} }

// String returns the severity's name, "" for none.
func (s Severity) String() string {
	if int(s) < len(severityNames) {
		return severityNames[s]
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. A name that this version does not know is Degraded: another node
// may be newer.
func (s *Severity) UnmarshalText(text []byte) error {
	*s = Degraded
	for i, name := range severityNames {
		if name == string(text) {
			*s = Severity(i)
		}
	}
	return nil
}

// ID names a kind of condition; see Table.
type ID string

// Condition is something that is not as it should be.
type Condition struct {
	ID       ID        `json:"id"`
	Severity Severity  `json:"severity"`
	Node     string    `json:"node"`    // the node that found it
	Subject  string    `json:"subject"` // what it concerns: "shard 0", "partition 3", "clickhouse of shard 0", a node
	Since    time.Time `json:"since"`   // when this node found it
	Text     string    `json:"text"`
	Todo     string    `json:"todo"`
}

// String is the condition in one line, for people: "partition 3 stopped: <text>".
func (c *Condition) String() string { return c.Subject + " " + c.Severity.String() + ": " + c.Text }

// Compare orders conditions: the gravest first, then the oldest, then by id, subject and node.
func Compare(a, b Condition) int {
	return cmp.Or(cmp.Compare(b.Severity, a.Severity), a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Node, b.Node))
}
