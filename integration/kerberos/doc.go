// Package kerberos holds a test of a node that proves itself to a real Kafka broker with a ticket of a real KDC
// (GSSAPI).
package kerberos
