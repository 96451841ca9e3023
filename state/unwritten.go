package state

import "maps"

// maxUnwritten bounds the rows that a shard remembers one by one: they stand in meta, which every checkpoint writes.
const maxUnwritten = 1000

// unwritten is what a shard knows of closed sessions of which the table of sessions may have no row, although the sink
// that inserts rows has acknowledged the epoch in which they were closed (level 4). A revision inserts the rows that it
// does not find only if they are among these; of all others it knows that somebody has deleted them. So what is not
// certain belongs here: that a row is named here without need brings a deleted row back, with the session's next
// revision, but one that is missing here would be lost.
type unwritten struct {
	// To is an epoch: a session that was first closed in it or before may have no row.
	To uint64 `json:",omitempty"`
	// Rows are the others, by SessionRow.Key. It is nil rather than empty, since it is stored.
	Rows map[string]unwrittenRow `json:",omitempty"`
}

// unwrittenRow is a row that the sink of sessions has refused.
type unwrittenRow struct {
	// Image is the epoch of the session's newest closed image, if that is a revision; 0: none is known.
	Image uint64 `json:",omitempty"`
	// Until is set once the session has been purged: it has no image above this epoch.
	Until uint64 `json:",omitempty"`
}

// some says whether single rows are remembered.
func (u *unwritten) some() bool { return len(u.Rows) > 0 }

// refuse takes a row that was refused by the outstanding plan that ends with epoch b, in which the session was first
// closed. A row too many makes all of them not certain.
func (u *unwritten) refuse(key string, r unwrittenRow, b uint64) {
	switch {
	case b <= u.To:
	case len(u.Rows) >= maxUnwritten:
		u.To, u.Rows = b, nil // the sessions of the others were closed in this plan or before it
	case u.Rows == nil:
		u.Rows = map[string]unwrittenRow{key: r}
	default:
		u.Rows[key] = r
	}
}

// change changes what is known of a row, if it is one of these.
func (u *unwritten) change(key string, f func(*unwrittenRow)) {
	if r, ok := u.Rows[key]; ok {
		f(&r)
		u.Rows[key] = r
	}
}

// pass forgets the rows that the plan (a, b] of revisions has written, and those of which no image is to come. refused
// says whether the plan has left a row out. The newest image of a session is not superseded, so a plan has it; of an
// older one nobody knows whether it was still there when the plan began.
func (u *unwritten) pass(a, b uint64, refused func(key string) bool) {
	maps.DeleteFunc(u.Rows, func(key string, r unwrittenRow) bool {
		return a < r.Image && r.Image <= b && !refused(key) || r.Until != 0 && r.Until <= b
	})
	if len(u.Rows) == 0 {
		u.Rows = nil
	}
}

// clone returns a copy that later changes leave alone.
func (u *unwritten) clone() unwritten { return unwritten{u.To, maps.Clone(u.Rows)} }

// stands says whether a row was written when its session was first closed, in an epoch that the sink of sessions has
// acknowledged.
func (u *unwritten) stands(key string, firstClosed uint64) bool {
	_, not := u.Rows[key]
	return firstClosed > u.To && !not
}
