// Package share lets one node commit what all nodes of a cluster have staged for a Delta table, so that a flush
// interval makes one commit, and not one for each node.
//
// # Promise
//
// A node that leads shard 0, the committer, takes offers (deltalog.Offer) and puts those of a turn into the log as one
// commit. Whatever it answers, does, or leaves undone, no row is lost or written twice: every offer goes through the
// checks of deltalog, and a node acknowledges only what it has itself read in the log. So this package is a courtesy:
// if it fails, a node commits by itself, and the table has more commits.
//
//	node                                  committer (Rounds)
//	Client.Offer ── offer ──────────────► check ─► open round of the lane ─┐ all nodes are there, or its time is over
//	     ▲                                     late: another, for a token ─┼─► Log.SubmitAll ─► answers
//	     └────────── answer ◄───────────────────────────────────────────────┘
//
// # Invariants
//
//  1. An offer is committed with all of its parts or with none, at most once by this node, and not after its caller has
//     gone, unless its PUT has begun. It is withdrawn 30 s after its round at the latest, so what is committed has
//     been staged a moment ago.
//  2. A lane makes one commit for each turn that was heard here, and one for each token; a table has 36 tokens, and one
//     more every 130 s. Offers that come when the first round of their turn is closed meet in another one, which takes
//     a token; without a token they wait for the next turn. So an overloaded machine becomes slower and makes no more
//     commits.
//  3. A first round is open until every node that leads a shard, as the replicas here say, has offered all for its turn
//     or for a later one (Offer.More says that it has not), and no longer than its time, which begins with the turn:
//     the waits of both do not add up. A round of late offers is open for a moment, because nobody knows when a shard
//     will come that was at something else. Then both wait on for nodes that are at work: that have offered a part for
//     the turn, or something for the one before. The fewer tokens a table has, the longer: not at all while it has all,
//     and up to three quarters of the interval when there is none.
//  4. Nobody offers for a shard that another node leads, as the replicas here say.
//  5. Memory is bounded by raftstore: sixteen requests of a node, of at most 1 MiB.
//
// # Why patience grows as tokens go
//
// An offer that waits for the next turn keeps its shard busy until then: what the shard has closed meanwhile is late
// for that turn, too, and without a token waits for the one after it. So a shard that has once been sent to the next
// turn loses a whole interval in each, until there is a token for it. Whoever waits a second for everybody loses a
// second. Where machines are always slow the tokens settle where rounds are just long enough that few are late: a token
// is used each 130 s. Package delta's TestLateness has the figures, with flushers and gathers.
//
// # Exactly once, with a kill at every step
//
// A commit has a part's rows if and only if it moves that part's txn from what it was when the change was made to what
// it is to be, and version n + 1 is written once, on a version n on which every check held (deltalog, invariant 1).
//
//	killed, cut off or slow         what stands       how it goes on
//	node, while it uploads          maybe files       the new leader writes the plan; vacuum takes the files
//	node, after its offer           an offer here     committed or withdrawn; the new leader sees the txn, or writes
//	                                                  the plan alone: the later of the two is done, or split
//	committer, before the PUT       nothing           nodes get an error, or hear of another leader, and commit alone
//	committer, PUT unanswered       maybe the commit  the nodes' own commits race for the version: they lose, read it
//	                                                  and are done, or the late PUT finds the version taken
//	committer, after the PUT        the commit        the nodes read it, and are done
//	answer lost or repeated         the commit        Landed, or the check of the own commit
//	committer paused for an hour    an old snapshot   its offers are withdrawn; its PUT finds the version taken
//	two committers                  offers with both  one wins; the other checks anew, and what is done falls out
//	a shard's former leader offers  two offers        one is committed; the other is done, or split
//	store accepts and answers 503   maybe the commit  it is read back by its unique id
//
// # Clocks
//
// Numbers of turns are by the wall clock of whoever asked for them, and may come from two clocks. They decide only who
// is waited for, never whether or when something is committed. Waits are measured here.
package share
