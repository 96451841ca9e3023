// Package raftstore replicates the state machines of the shards: one group of hashicorp/raft per shard, over one port
// and one log per node.
//
// # Promise
//
// An entry whose Future has a result was fsynced on a quorum and applied here, in the order in which this leader
// proposed it. Every replica applies the same entries in the same order. Any one of three nodes may vanish, with its
// disk too, and come back with an empty one, without the help of an operator.
//
// # Invariants
//
//  1. A server id (node name and incarnation) names one data folder. A folder that lost anything it promised is emptied
//     as a whole and gets a new incarnation. Every connection says which id it means; a node with another id refuses
//     it.
//  2. A group's first configuration is written once, by the first of the configured nodes, while its identity says
//     "founding": after a majority of the founders has noted the cluster's id. A node that knows a cluster never founds
//     another.
//  3. The log is truncated only up to a marker, and a marker is written only when the state machine is durable up to
//     it. At start: durable ≥ marker, log ≥ applied; anything else is damage, and so are a log record, a sealed file or
//     a file of the state machine that does not fit its checksum.
//  4. A node keeps no log entry below an installed snapshot (such an entry was never compared with the snapshot), and
//     drops the end of a log only where it conflicts with what is known to be committed.
//  5. An error of the state machine or of the log stops the group for good and reaches OnFatal once. Nothing is
//     skipped. If it is damage, the identity says "void" before the process can end, so that the next Open answers it
//     and the node does not meet it again at every start. Only what a newer binary has written is no such error: it
//     holds the group (8).
//  6. Entries of one leadership are accepted in order: after one was refused, none is accepted until the leadership has
//     been announced again.
//  7. What Raft keeps in memory is what its log and its marker say: where the two differ (the log conflicts with a
//     snapshot, or a leader's change of the configuration could not be stored), the instance ends and another one
//     begins.
//  8. A group that is held applies nothing from its first unreadable entry on, truncates nothing, sends no state, and
//     its leadership is handed on. It takes entries, answers and votes. The next start reads the log from the marker
//     again.
//  9. A snapshot that only a newer binary can read is never staged.
//  10. A request reaches Raft only if the node at the other end of its connection could have sent it, and an answer
//     only if the server that was asked could have given it (below).
//  11. A server that this replica has seen leave a group is never heard again by it, over restarts and snapshots, and
//     a leader that knows of it does not let it in again.
//
// # Who speaks
//
// Every connection has a peer, the node at its other end, or nobody, where it does not tell. speaker.go has the rules
// by which a request is judged, term.go those of terms, control.go those of control requests, transport.go those of
// answers. They hold where the peer is nobody, too, though anybody may then take a member's name: what they end there
// is a request in no member's name, of a former incarnation, or with a term that nobody could follow.
//
// With Options.Security a connection's peer is the node that its certificate names, in both directions, and nothing
// else of it counts: each group has one incoming transport for each other node, since the library hands a request over
// without its connection. A connection ends when the chain of its peer's certificate holds no more: in time, or by the
// CAs of now. Before a connection has shown who it is, it has one of a few places (places.go); the oldest gives way.
//
// The reasons are labels of metrics: sender, address, replaced, term, not_leader. A refused request is answered with
// the reason and counted; it is logged once a minute for each node and reason.
//
// A joiner is in no configuration and knows none. It calls by control requests only, and takes the appends and the
// snapshot of the leader that sends them; having nothing, it takes any term. A leader of whom a replica knows nothing
// is believed as a member of the cluster, no more and no less: a follower that was away knows none of the newer ones.
//
// What a member can do with its own name is not looked at: it may lead and write entries, raise the term by 2³² at each
// request, claim a new incarnation of its node. A raise by nearly 2³² that one server takes, and the election after it,
// may leave behind a server that has not heard of it: that one takes nothing any more, says so
// (GroupStatus.TermRefused) and has to rejoin with an empty folder. It does not trust a second member's word instead:
// two that agree could not be told from one that has infected the other.
//
// # Levels
//
// A group has a level (package schema/level), which its state machine keeps and which never falls. Every node tells the
// level of its binary with each control request, and to whoever says "hello"; v0.1.0 tells none, and has the first.
// Group.Levels asks all members anew, each under its server id, so that the leader can raise the level when every
// member can read it, and its configuration allows it. A group's leader refuses a joiner below the group's level; the
// joiner shows why. So nobody is below the level of its group, unless a node is started with an older binary, or joins
// while the level rises. On such a node the group is held:
//
//	            an entry is above the level of the binary
//	applying ──────────────────────────────────────────────► held ──────► (restart) applying, from the marker on
//	                                                           │
//	    known, marker, log begin     stand still               │ the log of the node exceeds 4 WALBytes
//	    entries                      stored, passed over       ▼
//	    heartbeats, votes            answered          no entries are taken, for any group of the node;
//	    leadership                   handed on         its other leaderships are handed on, too
//	    snapshots                    refused, both ways
//
// Entries are passed over without a pause, since the library hands them over through a channel of 128 batches, and
// stalls as a whole when it is full. A leader asks a follower for its level before it sends a snapshot, and sends none
// that cannot be read there; if one comes all the same, the stream ends after its head.
//
// # A node's life (file identity)
//
//	          all peers: no cluster,                majority told,
//	          and this is the first    ┌──────────┐ configurations written
//	        ┌─────────────────────────►│ founding ├───────────────┐
//	┌───────┴┐ told by the founder     └──────────┘               ▼
//	│  new   ├───────────────────────────────────────────────►┌────────┐  replaced by another   ┌──────┐
//	└───────┬┘                         ┌──────────┐           │ member ├──────────────────────►│ void │
//	        └─────────────────────────►│ joining  ├──────────►└────────┘  incarnation           └──┬───┘
//	          peers have a cluster     └────▲─────┘ voter in every group, or damage at run time   │
//	                                        └───────────── folder emptied, new incarnation ◄──────┘
//	                                                        (damage found by Open comes here, too)
//
// A joining folder that was replaced before it noted that it was a member becomes void, too.
//
// A single node has no other node to rejoin: damage found by Open is its error, and nothing is changed; a void folder
// is refused at every start, until the whole of it is restored from a copy or moved away.
//
// A joining node asks each group's leader. The leader first asks the node itself at its configured address, then
// removes the former server, adds the new one as a non-voter, and makes it a voter when it has caught up. Every step is
// a plain membership change of Raft and is repeated until it is done.
//
// # The folder
//
//	identity                      who the node is (sealed.go: one line of JSON, one of CRC32C, replaced as a whole)
//	wal/                          the log of all groups (package wal)
//	shard-<n>/                    the state machine's files
//	snapshots/marker-<n>          index, term and configuration up to which the state replaces the log
//	snapshots/staged-<n>/         a received snapshot, until the state machine takes it over (snapshots.go)
//	snapshots/send-<n>-<k>/       a copy of the state that is being sent to a follower (sender.go)
//
// # Files
//
// Each file uses only the files above it in this list, with one exception: fsm, snapshots and sender are one machine.
// A part that needs something of a file below it is given a function for it when it is made.
//
//	errors        every error of the package, and which of them are damage      the values that all share
//	format        every name, magic and version of what is stored or sent
//	api, options, status   StateMachine, what Open takes, what Status returns
//
//	sealed        sealed files and folders, durably                             the node
//	identity      the identity file: read, created, emptied
//	wire          connection headers, control requests and responses
//	self          the running node's identity: the only place where it changes
//	metrics       histograms, counters, gauges
//	refusals      counts, logs and remembers what was refused between the nodes
//	term          how far a term may be above another one
//	security      what the connections' certificates are asked
//	places        how many connections come in, of whom
//	network       the node's port: listens, dials, knows every connection and its peer
//	longer        makes full appends longer, for a follower that is behind and far away
//	transport     one group's view of the port, and Raft's transport over it
//	peers         sends control requests to the other nodes; asks for their cluster before anything is opened
//	hclog         Raft's messages in slog
//	bound         how long the log may be because of a held group
//
//	log           the group's log and term as Raft uses them: deadlines         one group's data
//	marker        up to where the state replaces the log
//	formers       the servers that were seen to leave the group
//	stream        a snapshot as a stream of bytes
//	fsm           applies entries; knows the committed configurations
//	snapshots     received snapshots, staged and taken over; the marker
//	sender        copies of the state for followers that are far behind
//
//	sane          checks incoming requests for what would make Raft panic       one group's parts
//	instance      one run of Raft, and what is asked of it
//	speaker       checks incoming requests for who sends them
//	guard         sees incoming requests before Raft does
//	propose       entries in order, their results, and announced leadership
//	engine        begins, ends and restarts Raft
//	maintain      keeps the log short
//	members       the leader's part in replacing a server
//	standing      the new server's part
//	handover      gives the leadership to another node; drained, kept
//	levels        asks the members for their levels
//	group         puts the parts together; the public Group
//
//	forming       from an empty folder to membership                            the whole
//	share         requests that may be large and take long, both ends
//	control       takes incoming connections, answers control requests
//	store         Open, Close, Status; fatal errors
//
// # Locks
//
// engine.switching is taken first: it is held while an instance begins or ends, and nothing that waits for it holds
// another lock. guard and maintainer share oneSnapshot, which keeps a local snapshot and an installed one apart; it is
// held while Raft works. proposer.mu is held for the call that hands an entry to Raft, which blocks while Raft's queue
// is full. sender.busy is held while the state machine copies itself. The rest (Store.mu, self.mu, fsm.mu,
// snapshots.mu, sender.mu, logStore.mu, network.mu, places.mu, transport.mu, refusals.mu, formers.mu, sharing.mu,
// sharers.mu) protect a few fields each; no other lock of the package is taken while one of them is held, formers.mu
// under fsm.mu excepted. self.mu and snapshots.mu are held while their sealed file is written.
//
// # Assumptions
//
// The disk: what Sync has returned for is there after a power cut, a rename is atomic, and damage shows in a checksum:
// of a log record, of a sealed file, of a block of the state machine's tables. A snapshot carries a checksum per file,
// and the state machine has checked its own before, so that damage does not travel. The network may lose, delay, repeat
// and cut. Clocks need only advance: no two nodes' times are compared. The two other nodes of a cluster keep a
// majority's folders; all three lost at once is a new cluster, or, where one still knows the id, a cluster that waits.
// Damage is a matter of one disk: of two nodes that find some at the same time both are emptied, and with them a
// majority. So an error that every replica would meet alike must not call itself damage (StateMachine).
//
// # Known limits
//
// If the founder loses its disk between telling its peers and its first committed entries, within the first second of a
// cluster's life, the groups have no leader: the folders, which hold nothing yet, have to be emptied by hand. Changes
// of membership beyond replacing a folder are not offered. The configured address of a node may change with a restart
// of all nodes; Raft's own record of it is not used to dial.
//
// # Rejected
//
// A Raft library that runs many groups (none in Go is maintained as well). The heartbeat fast path, pipelining and
// replay of committed logs of hashicorp/raft: they are broken upstream, see transport.go and engine.go. Separate
// snapshot files on the local disk: the state machine has its own files already. Incarnations in addresses only: a vote
// would then outlive its folder.
package raftstore
