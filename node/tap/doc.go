// Package tap shows people what passes through a node while it passes: records, events, sessions, rows and letters.
//
// # Promise
//
// A tap disturbs nothing. While nobody looks at a stage, it costs one atomic load for each batch. While somebody does,
// each line is made where it passes, and what a tap has no room for, or no patience, is counted and left out: nothing
// waits for whoever reads.
//
// # Invariants
//
//  1. At most MaxTaps are open at a time, each for at most MaxFor, and each is given at most MaxRate lines a second.
//  2. A line is a whole JSON text when it is given: it shares no memory with what it shows.
//  3. Of each tap it is known how many lines it was offered, and how many of them it was not given.
//  4. What a line shows of a record is what a dead letter of it would show by the present rules (event.Redactor). With
//     Query.Clear it is the record as it came. Of a reader on the list of suppressed readers it is nothing, either way.
//
// # Limits
//
// A tap sees what its node leads. It shows what passes while it is open, and is no log: a record that is fetched anew
// passes anew.
package tap
