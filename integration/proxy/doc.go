// Package proxy is a TCP proxy on loopback whose network can be made bad, each direction for itself:
//
//	client ──► listener ──► up   ──► target     up, down: bytes wait while Hold is set, are late by Delay, and
//	       ◄──────────── ◄── down ◄──            flow at Rate at most
//
//	Set(up, down)   slow, or a black hole (Hold), one way or both
//	Cut()           every connection is reset, and new ones are reset as soon as they are made
//	Heal()          as new; what was held goes on
//
// # Promise
//
//  1. No byte is lost, doubled or moved within a connection that lives: a black hole keeps what it swallows and
//     delivers it when it ends, as TCP's repeats would. So a write that its sender has long given up may still arrive.
//  2. While bytes of a direction are held, the end of the stream is held too: a peer that has died is not known to be
//     dead.
//  3. At most 1 MiB a connection and direction is kept; then its sender is no longer read.
//
// A new connection during a black hole is accepted, and hears nothing. That differs from a real one, whose handshake
// would not end, in which of a client's timeouts fires.
//
// Rejected: Shopify/toxiproxy as a library. Its black hole drops what it swallows and closes the connection, so that
// nothing ever arrives late, and late arrivals are what this is for.
package proxy
