package raftstore

import (
	"crypto/tls"
	"time"
)

// Security is how the connections between the nodes are secured: TLS, in both directions, with certificates that name
// nodes. All methods are called from any goroutine.
type Security interface {
	// Server returns the configuration of one incoming connection: it demands a certificate of the nodes' CA that is
	// good for a client, and resumes no session.
	Server() *tls.Config
	// Client returns the configuration of one connection to a node; the certificate must be good for a server. Which
	// node it names is asked of Peer.
	Client(node string) *tls.Config
	// Peer tells which other configured node is at the end of a connection, by the names of its certificate alone; if
	// it is none, why: a label ("no_name", "other_cluster", "no_node", "own_name") and a text for people.
	Peer(tls.ConnectionState) (node, why, text string)
	// Verify verifies the chain of a connection's other end anew, by the CAs of now, and tells until when it holds; the
	// zero time is for ever.
	Verify(tls.ConnectionState) (until time.Time, err error)
	// Changed has a function called after other CAs, another certificate or another key has come into use. It does not
	// wait.
	Changed(func())
}
