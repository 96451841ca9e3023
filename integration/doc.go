// Package integration holds the tests against real services: three `deckle run` processes over Apache Kafka, MinIO and
// the ClickHouse engine. Processes are killed and services are taken away, and then `deckle verify` and readers that
// nobody here wrote (readers.py) compare the tables with the ground truth.
package integration
