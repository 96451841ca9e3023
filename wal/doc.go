// Package wal is the write-ahead log of a node, shared by all its Raft groups. See docs/design.md §4.
package wal
