// Package condition keeps the list of what is not as it should be on one node. Whoever finds something says so with
// Registry.Set and takes it back with Registry.Clear; /api/v1/status, /readyz, the page, the metric deckle_condition
// and the log all show this one list.
//
// # Promise
//
// A condition that holds is in Snapshot from the Set that begins it to the Clear that ends it, once per id and subject,
// with the time at which it began. The log tells each beginning and each end once, however often the work behind it is
// retried and however its text changes meanwhile. What passes by itself most of the time, and within seconds (a source
// or a partition that cannot be read while its leader becomes another one), begins only once it has lasted for a
// while; its time is that of the first Set all the same.
//
//	Set ──► begins: log, since = now ──► Set again: new text, same since ──► Clear ──► ends: log
//
// # Invariants
//
//  1. What an id means stands in one table: severity, threshold, effect on /readyz, what to do. docs/operations.md
//     begins with that table, and a test compares the two.
//  2. Every id of the table is set somewhere. Whoever adds an id adds the code that sets it and a test that sees it
//     begin and end.
//  3. Set with what is already there changes nothing and logs nothing, so that a loop may say the same thing each time.
//  4. The log has a beginning before its end: lines are written in the order in which the list changes.
//
// # Limits
//
// The list is of one node and in memory: a restart begins it anew. Subjects are bounded by their kind (shards,
// partitions, sinks, nodes), so the list is, too.
//
// # Rejected
//
// A level of the log per retry: whoever reads the log of an outage of an hour learns nothing from the two hundredth
// line. Conditions in the replicated state: they are findings about this node's surroundings, and another leader finds
// its own.
package condition
