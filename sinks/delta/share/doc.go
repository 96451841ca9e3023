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
//	     ▲                                          late: at once, for a token ├─► Log.SubmitAll ─► answers
//	     └────────── answer ◄───────────────────────────────────────────────┘
//
// # Invariants
//
//  1. An offer is committed with all of its parts or with none, at most once by this node, and not after its caller has
//     gone, unless its PUT has begun. It is withdrawn 30 s after its round at the latest, so what is committed has
//     been staged a moment ago.
//  2. A lane makes one commit for each turn that was heard here, and one for each token; a table has 36 tokens, and one
//     more every 130 s. An offer that comes when its lane's round is closed takes a token and is committed at once;
//     without a token it waits for the next round, and rounds are a second longer until there is one. So an overloaded
//     machine becomes slower and makes no more commits.
//     A round without a token is also open for a second after its first offer, so that few have to wait so long.
//  3. A round is open until every node that leads a shard, as the replicas here say, has offered for its turn or a
//     later one, and no longer than its time, which begins with the turn: the waits of both do not add up.
//  4. Nobody offers for a shard that another node leads, as the replicas here say.
//  5. Memory is bounded by raftstore: four requests of a node, of at most 1 MiB.
//
// # Clocks
//
// Numbers of turns are by the wall clock of whoever asked for them, and may come from two clocks. They decide only who
// is waited for, never whether or when something is committed. Waits are measured here.
package share
