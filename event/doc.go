// Package event is the schema of a reader event: its fields, the decoder of its JSON form, the reasons for which a
// record is refused, and the compact batch encoding that replicas exchange.
package event
