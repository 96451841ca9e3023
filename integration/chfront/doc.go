// Command chfront serves ClickHouse's native TCP protocol in front of libchdb, the ClickHouse engine as a library: a
// real engine for the tests of machines that have no ClickHouse server. It is a test tool and no part of Deckle. The
// protocol's half of a session is that of sinks/clickhouse/model.
//
//	chfront -lib PATH/libchdb.so -path DIR -addr 127.0.0.1:0 -user default -password X [-addr-file FILE]
//	        [-sessions 8] [-v] [-password-file FILE] [-tls-addr 127.0.0.1:0 -tls-cert FILE -tls-key FILE]
//
// Promise. When a client of the native protocol is told that rows are inserted, the engine has inserted them, with the
// engine's own durability. An error of the engine reaches the client as an exception with the engine's code. SIGTERM
// and SIGINT end the process after the queries that are running, with the engine closed. SIGKILL is a power cut for
// everything in the process that is not synced, which is what it is used for.
//
//	client ──► session (one goroutine per connection) ─► engine (a session of libchdb that is idle)
//	            reads Query, then Data … Data, blank     USE database; the query
//	            an insert's blocks go to a spool file    INSERT INTO t SETTINGS … SELECT * FROM file(spool, Native)
//
// States of a session:
//
//	hello ──► idle ──Query──► running ──result, exception──► idle
//	            │                └──INSERT──► header sent ──Data──► spool ──blank Data──► running
//	            └──Data (of a query that already failed): read and dropped
//
// Invariants.
//  1. The blocks of one INSERT reach the engine as one query. A connection that breaks before its blank block inserts
//     nothing.
//  2. The database of a connection and the settings of a query never reach another one, because both are set in a
//     session of the engine that nobody else has meanwhile.
//  3. After an exception, the stream is still in step: every block that the client still sends for the failed query is
//     read.
//
// Limits. There is one user. There are no external tables, and no progress, profile or log packets. At most
// -sessions queries run at a time, side by side as in a server (libchdb's connections are independent since its version
// 4), and a query is not cancelled when its client leaves. A result is held in memory as a whole. SYNC after a DROP
// is ignored, because the engine would never end it as a library. The protocol is 54453, the last one whose blocks are
// the engine's Native format byte for byte.
package main
