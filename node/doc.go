// Package node wires a Deckle node: configuration, source, shard loops, flushers, HTTP. See docs/design.md §7.
package node
