package deltalog

// OfferFormat is the format of an Offer.
const OfferFormat = 1

// MaxOffer is the most bytes that an encoded offer may have: what does not fit into a frame between nodes, which is
// 1 MiB with its envelope, is committed by its own node.
const MaxOffer = 1<<20 - 4<<10

// The lanes of offers. Plans of a lane meet in one round, and are committed together.
const (
	LaneEvents    = "events"
	LaneSessions  = "sessions"
	LaneRevisions = "revisions"
)

// Offer is what a node has staged for one table in one turn, and wants to have committed by another node: with all of
// its parts, or with none. An offer without parts says that nothing will come from its node in this turn.
type Offer struct {
	Format int    // OfferFormat
	Table  string // name of the table's folder
	Lane   string
	Turn   uint64 // sinks.Turn.Number
	Change
}

// Outcome is what has become of an offer.
type Outcome string

// The outcomes of an offer. Any other text stands for OutcomeNo.
const (
	OutcomeCommitted Outcome = "committed" // by this commit, Answer.Version
	OutcomeDone      Outcome = "done"      // all parts were in the log before
	OutcomeSplit     Outcome = "split"     // some of the parts were: the node makes a change of the others
	OutcomeRebuild   Outcome = "rebuild"   // the table has changed: the node makes the change again (ErrRebuild)
	OutcomeNo        Outcome = "no"        // refused, or not known: the node commits by itself
)

// Answer is what a committer says of an offer. Nothing is acknowledged by it: the node looks at the log itself.
type Answer struct {
	Outcome Outcome
	Version int64  `json:",omitempty"` // of the commit, for OutcomeCommitted
	Error   string `json:",omitempty"` // why, for people
}
