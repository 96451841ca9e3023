// Package front takes the connections of the HTTP side, and holds strangers to what a node can spare.
//
// # Promise
//
// However many connections are opened, only a bounded number of them holds a file descriptor: storage, Kafka and the
// other nodes keep theirs.
//
//	net.Listener ──► Limit ── too many in all, or from one address ──► closed at once
//	                   └───────────────────────────────────────────► http.Server
//
// # Invariants
//
//  1. A connection beyond a limit is taken and closed, never left in the kernel's queue, where it would hold back those
//     that are within.
//  2. What is counted as open is what has not been closed: a connection that is closed twice is counted once.
//
// The package knows connections and requests, and no route. It imports none of ours.
package front
