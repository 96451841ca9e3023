// Command chfront serves ClickHouse's native TCP protocol in front of libchdb, the ClickHouse engine as a library: a
// real engine for the tests of machines that have no ClickHouse server. It is a test tool and no part of Deckle. The
// protocol's half of a session is that of sinks/clickhouse/model.
//
//	chfront -lib PATH/libchdb.so -path DIR -addr 127.0.0.1:0 -user default -password X [-addr-file FILE] [-v]
//
// Promise. What a client of the native protocol is told to be inserted was inserted by the engine, with the engine's
// own durability; an error of the engine reaches the client as an exception with the engine's code; SIGTERM and SIGINT
// end the process after the query that runs, with the engine closed; SIGKILL is a power cut to everything unsynced in
// the process, which is what it is used for.
//
//	client ──► session (a goroutine a connection) ──► engine (one lock: libchdb has one session)
//	            reads Query, then Data … Data, blank      USE database; the query
//	            an insert's blocks go to a spool file     INSERT INTO t SETTINGS … SELECT * FROM file(spool, Native)
//
// States of a session:
//
//	hello ──► idle ──Query──► running ──result, exception──► idle
//	            │                └──INSERT──► header sent ──Data──► spool ──blank Data──► running
//	            └──Data (of a query that already failed): read and dropped
//
// Invariants.
//  1. The blocks of one INSERT reach the engine as one query; a connection that breaks before its blank block inserts
//     nothing.
//  2. The database of a connection and the settings of a query never leak into another: the lock spans both.
//  3. An exception leaves the stream in step: every block that the client still sends for the failed query is read.
//
// Limits: one user; no external tables; no progress, profile or log packets; queries run one at a time; a query is not
// cancelled when its client leaves; results are held in memory whole; SYNC behind a DROP
// is ignored (the engine as a library would hang in it). Protocol 54453, the last one whose blocks are
// the engine's Native format byte for byte.
package main
