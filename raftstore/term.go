package raftstore

// The library takes over any greater term that it is told, in a request or in an answer, and stores it: one with the
// greatest number there is would leave a group without a leader for good. So a term may only be so far above what it is
// compared with.
const (
	// termBound is how far a term may be above the one that it is compared with. A member that was cut off and went on
	// voting stays far below it: at the shortest election timeout that can be configured, 5 ms, 2³² elections take
	// eight months, and with pre-votes a server that is cut off does not raise its term at all.
	termBound = 1 << 32
	// termLimit is above every term, so that one more than a term never wraps.
	termLimit = 1 << 63
)

// termWithin tells whether a term is at most termBound above another one.
func termWithin(term, above uint64) bool {
	return term < termLimit && (term <= above || term-above <= termBound)
}
