// Package rights holds tests of a node over a real Kafka broker and a real store that give it the rights of
// deploy/rights and no others.
package rights
