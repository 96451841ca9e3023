// Package level says which versions of its formats a cluster writes.
//
// A level is one number for all formats together. Every node tells the level of its binary when it is asked who it is.
// A group of replicas rises by one level, by a replicated entry, when all of its members have told at least that level.
// A binary reads the formats of its own level and of every level below, and writes those of its group's level. What is
// above its level it cannot read yet: it waits for a newer binary, and nothing is called damaged (docs/design.md §11).
//
// Level 2 grows until version 0.2.0 is released, and levels 3 to 5 until the release after it; each is fixed from then
// on, with what it has by then. What comes later is of the next level.
package level

import "fmt"

// Level is a set of formats, one version of each.
type Level uint32

const (
	// First is the level of v0.1.0. Whoever tells no level has it.
	First Level = 1
	// Real is the level of 0.2.0: rules in the log, gaps, bounded sessions, accounts of what publishers send.
	Real Level = 2
	// Guarded is the level that knows rules about personal data. It is a level of its own, and not a part of Real,
	// because rules are JSON: a binary of level 2 would pass over a rule that it does not know, and write in clear what
	// the rule protects. From Real to Guarded the nodes may be restarted one after the other.
	Guarded Level = 3
	// Lake is the level whose state knows which rows of sessions stand in the Delta table, so that a row that another
	// tool has deleted is not written again, and the brand with which each row was opened (the column opening_brand).
	// From Guarded to Lake the nodes may be restarted one after the other.
	Lake Level = 4
	// Operate is the level that knows the verbs of operators: partitions that are added to the topic are read. From
	// Lake to Operate the nodes may be restarted one after the other.
	Operate Level = 5
	// Current is the level of this binary.
	Current = Operate
)

// Format is something that is stored or sent, with the version of it that each level writes.
type Format struct {
	Name     string
	versions [Current + 1]byte // by level; 0 where the level does not have the format
}

// The formats that follow the level. Those of a node's own files, which no other node reads, have their versions in the
// format.go of their packages, and so have the formats that never change; docs/formats.md lists all of them.
var (
	// Entry is an entry of a shard's Raft log. Its version is raised whenever that of anything within it is. The entry
	// that raises the level has the version of the level before, so that it can be read up to there.
	Entry = Format{"entry", [...]byte{First: 1, Real: 2, Guarded: 3, Lake: 3, Operate: 4}}
	// Batch is a batch of events within an entry.
	Batch = Format{"batch", [...]byte{First: 1, Real: 2, Guarded: 3, Lake: 3, Operate: 3}}
	// Store is the Pebble store of a shard as a whole: its keys, and the values without a version of their own.
	Store = Format{"state", [...]byte{First: 1, Real: 2, Guarded: 3, Lake: 4, Operate: 5}}
	// Session is the image of a session in the store.
	Session = Format{"session", [...]byte{First: 1, Real: 2, Guarded: 2, Lake: 3, Operate: 3}}
	// Epoch is what is known of an epoch, in the store.
	Epoch = Format{"epoch", [...]byte{First: 1, Real: 2, Guarded: 3, Lake: 3, Operate: 3}}
	// Stream is the stream that carries a snapshot to another node.
	Stream = Format{"snapshot stream", [...]byte{First: 1, Real: 2, Guarded: 2, Lake: 2, Operate: 2}}
	// Tables are the columns of the Delta and ClickHouse tables; package schema says since which level each exists.
	Tables = Format{"tables", [...]byte{First: 1, Real: 2, Guarded: 2, Lake: 3, Operate: 3}}
)

// At returns the version that a group at level l writes. It panics if l is 0 or above Current, because nobody writes
// there.
func (f Format) At(l Level) byte {
	if l < First || l > Current {
		panic(fmt.Sprintf("level: %s at level %d, this binary knows 1 to %d", f.Name, l, Current))
	}
	return f.versions[l]
}

// Since returns the first level that writes the version, 0 if this binary writes it at none.
func (f Format) Since(version byte) Level {
	for l := First; l <= Current; l++ {
		if f.versions[l] == version {
			return l
		}
	}
	return 0
}

// Newest returns the newest version that this binary reads.
func (f Format) Newest() byte { return f.versions[Current] }

// Check returns nil if this binary reads the version, and a *TooNewError if a newer one is needed. A version of 0 is no
// version; the caller treats it as corruption.
func (f Format) Check(version int) error {
	if version > int(f.Newest()) {
		return &TooNewError{What: fmt.Sprintf("%s format version %d", f.Name, version)}
	}
	return nil
}

// TooNewError says that something was written by a newer binary. It is neither damage nor divergence: it waits until
// that binary runs here.
type TooNewError struct{ What string }

// Error says what is too new and what to do.
func (e *TooNewError) Error() string {
	return fmt.Sprintf("%s is above level %d, the newest that this binary reads: run the newer binary here", e.What,
		Current)
}

// TooNew tells packages that know errors by their methods only.
func (e *TooNewError) TooNew() bool { return true }
