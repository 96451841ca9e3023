// Package services fetches and runs the real services that the tests need: Apache Kafka, two S3 servers (MinIO,
// versitygw), the ClickHouse engine behind a native-protocol front, Python with Delta readers that nobody here wrote,
// and Spark to be measured against. They are test tools, never dependencies of Deckle.
//
//	service      comes from                                            by
//	Kafka        org.apache.kafka:kafka_2.13, kafka-tools              Maven (java, mvn)
//	MinIO        github.com/minio/minio                                go install
//	versitygw    github.com/versity/versitygw                          go install
//	ClickHouse   @chdb/lib-linux-x64-gnu + integration/chfront (cgo)   npm pack, go build (npm, cc)
//	librdkafka   confluent-kafka                                       pip (python3)
//	readers      deltalake, duckdb, duckdb-extension-delta, polars     pip (python3)
//	Spark 3.5    pyspark, clickhouse-driver; Kafka's source, delta-    pip, Maven (java, mvn, python3)
//	             spark, hadoop-aws
//	Spark 4      pyspark; delta-spark                                  pip, Maven (java, mvn, python3)
//
// Everything that was fetched is in one cache folder outside the tree: $DECKLE_CACHE, by default deckle/services in the
// user's cache folder. A stamp file is written last, so a fetch that was interrupted is started again.
//
// If the machine lacks a tool, the error is a *MissingError. The tests that need the tool are skipped with its text, or
// fail with it if DECKLE_REQUIRE_SERVICES=1.
//
// Processes listen on loopback addresses only and write their logs into their folder. They are ended by their own
// process id, and die with the program that started them.
package services
