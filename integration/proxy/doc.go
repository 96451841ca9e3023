// Package proxy is a TCP proxy on loopback whose network can be made bad, separately for each direction:
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
//  1. No byte is lost, doubled or moved within a connection that lives. A black hole keeps what it swallows and
//     delivers it when the black hole ends, as TCP's retransmissions would. So a write that its sender has long given
//     up may still arrive.
//  2. While the bytes of a direction are held, the end of the stream is held, too, so that nobody learns that the peer
//     has died.
//  3. At most 1 MiB is kept per connection and direction. Beyond that, the proxy does not read from the sender.
//
// A new connection during a black hole is accepted, and then receives nothing. With a real black hole the handshake
// would not end, so that another of the client's timeouts fires.
//
// Rejected: Shopify/toxiproxy as a library. Its black hole drops what it swallows and closes the connection, so that
// nothing ever arrives late. Late arrivals are the purpose of this proxy.
package proxy
