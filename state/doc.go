// Package state is the state machine of one shard: sessions, offsets, timers, rollups, epochs and the progress of the
// sinks. See docs/design.md §3.
package state
