// Package integration holds the tests against real services: three `deckle run` processes over Apache Kafka, MinIO and
// the ClickHouse engine, with processes killed and services taken away, compared with the ground truth by `deckle
// verify` and by readers that nobody here wrote (readers.py).
package integration
