package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// dial connects to a running front (or server), or skips the test.
func dial(t *testing.T, database string) *ch.Client {
	t.Helper()
	addr := os.Getenv("DECKLE_TEST_CLICKHOUSE")
	if addr == "" {
		if os.Getenv("DECKLE_REQUIRE_SERVICES") == "1" {
			t.Fatal("DECKLE_TEST_CLICKHOUSE (host:port of a running chfront) is not set, and DECKLE_REQUIRE_SERVICES=1")
		}
		t.Skip("skipped: DECKLE_TEST_CLICKHOUSE (host:port of a running chfront) is not set")
	}
	c, err := ch.Dial(t.Context(), ch.Options{
		Address: addr, User: os.Getenv("DECKLE_TEST_CLICKHOUSE_USER"),
		Password: os.Getenv("DECKLE_TEST_CLICKHOUSE_PASSWORD"),
		Database: database, Compression: ch.CompressionLZ4, DialTimeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func do(t *testing.T, c *ch.Client, format string, args ...any) {
	t.Helper()
	var r proto.Results
	ignore := func(context.Context, proto.Block) error { return nil }
	q := ch.Query{Body: fmt.Sprintf(format, args...), Result: r.Auto(), OnResult: ignore}
	if err := c.Do(t.Context(), q); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, c *ch.Client, q string, settings ...ch.Setting) uint64 {
	t.Helper()
	var n proto.ColUInt64
	err := c.Do(t.Context(), ch.Query{Body: q, Settings: settings, Result: proto.Results{{Data: &n}}})
	if err != nil || n.Rows() != 1 {
		t.Fatalf("%s: %d rows, %v", q, n.Rows(), err)
	}
	return n.Row(0)
}

func newDatabase(t *testing.T) string {
	name := fmt.Sprintf("front_test_%d", time.Now().UnixNano())
	c := dial(t, "")
	do(t, c, "CREATE DATABASE %s", name)
	t.Cleanup(func() {
		var r proto.Results
		if err := c.Do(context.Background(), ch.Query{Body: "DROP DATABASE " + name, Result: r.Auto()}); err != nil {
			t.Error(err)
		}
	})
	return name
}

// insert sends n blocks, each with the given number of rows.
func insert(ctx context.Context, c *ch.Client, q string, blocks, rows int) error {
	var k proto.ColUInt64
	var v proto.ColStr
	fill := func() {
		k.Reset()
		v.Reset()
		for i := range rows {
			k.Append(uint64(i))
			v.Append(strings.Repeat("v", 100))
		}
	}
	fill()
	return c.Do(ctx, ch.Query{
		Body: q, Input: proto.Input{{Name: "k", Data: &k}, {Name: "v", Data: &v}},
		OnInput: func(context.Context) error {
			if blocks--; blocks == 0 {
				k.Reset()
				v.Reset()
				return io.EOF
			}
			fill()
			return nil
		},
		Settings: []ch.Setting{{Key: "async_insert", Value: "0", Important: true}},
	})
}

// TestExceptionInAnInsert: the engine refuses an insert when all of its blocks have been sent, or while some are still
// to come. The same connection goes on after that.
func TestExceptionInAnInsert(t *testing.T) {
	db := newDatabase(t)
	c := dial(t, db)
	do(t, c, "CREATE TABLE t (k UInt64, v String, CONSTRAINT c CHECK k != 4999) ENGINE = MergeTree ORDER BY k")
	for range 2 {
		err := insert(t.Context(), c, "INSERT INTO t (k, v) VALUES", 3, 5000)
		if !ch.IsErr(err, proto.ErrViolatedConstraint) {
			t.Fatalf("got %v", err)
		}
		if n := number(t, c, "SELECT count() FROM t"); n != 0 {
			t.Errorf("%d rows of a refused insert", n)
		}
	}
	if err := insert(t.Context(), c, "INSERT INTO t (k, v) VALUES", 40, 4999); err != nil {
		t.Fatal(err)
	}
	if n := number(t, c, "SELECT count() FROM t"); n != 40*4999 {
		t.Errorf("%d rows", n)
	}
	err := insert(t.Context(), c, "INSERT INTO nowhere (k, v) VALUES", 3, 10)
	if !ch.IsErr(err, proto.ErrUnknownTable) {
		t.Errorf("an unknown table: %v", err)
	}
}

// TestHalfAResult: a query that fails after some of its blocks leaves nothing to the next one.
func TestHalfAResult(t *testing.T) {
	c := dial(t, "")
	for range 3 {
		var r proto.Results
		err := c.Do(t.Context(), ch.Query{Result: r.Auto(),
			OnResult: func(context.Context, proto.Block) error { return nil },
			Body: "SELECT number + throwIf(number = 50000) FROM numbers(60000) " +
				"SETTINGS max_block_size = 1000, max_threads = 1"})
		if !ch.IsErr(err, proto.ErrFunctionThrowIfValueIsNonZero) {
			t.Fatalf("got %v", err)
		}
		if n := number(t, c, "SELECT toUInt64(17)"); n != 17 {
			t.Errorf("got %d", n)
		}
	}
}

// TestConnectionsDoNotMix: a database belongs to its connection, and settings belong to their query.
func TestConnectionsDoNotMix(t *testing.T) {
	dbs := []string{newDatabase(t), newDatabase(t)}
	for i, db := range dbs {
		c := dial(t, db)
		do(t, c, "CREATE TABLE t (k UInt64) ENGINE = MergeTree ORDER BY k")
		do(t, c, "INSERT INTO t SELECT number FROM numbers(%d)", i+1)
	}
	var wg sync.WaitGroup
	for i, db := range dbs {
		for j := range 3 {
			c := dial(t, db)
			wg.Go(func() {
				for range 20 {
					var n proto.ColUInt64
					err := c.Do(t.Context(), ch.Query{Body: "SELECT count() FROM t", Result: proto.Results{{Data: &n}}})
					if err != nil || n.Row(0) != uint64(i+1) {
						t.Errorf("%s, connection %d: %v rows, %v", db, j, n, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	c := dial(t, dbs[0])
	q := "SELECT toUInt64(getSetting('max_threads'))"
	if n := number(t, c, q, ch.Setting{Key: "max_threads", Value: "3", Important: true}); n != 3 {
		t.Errorf("setting: %d", n)
	}
	if n := number(t, dial(t, dbs[0]), q); n == 3 {
		t.Error("the setting has leaked")
	}
}

// TestQueriesSideBySide: a query that takes long does not hold up those of other connections.
func TestQueriesSideBySide(t *testing.T) {
	long, c := dial(t, ""), dial(t, "")
	done := make(chan error, 1)
	go func() {
		var r proto.Results
		done <- long.Do(t.Context(), ch.Query{Body: "SELECT sleep(3)", Result: r.Auto(),
			OnResult: func(context.Context, proto.Block) error { return nil }})
	}()
	for seen := uint64(0); seen == 0; {
		seen = number(t, c, "SELECT count() FROM system.processes WHERE query = 'SELECT sleep(3)'")
		select {
		case err := <-done:
			t.Fatalf("the long query has ended (%v), and no other connection could see it run", err)
		default:
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestBrokenInsertInsertsNothing breaks the connection before the last block.
func TestBrokenInsertInsertsNothing(t *testing.T) {
	db := newDatabase(t)
	do(t, dial(t, db), "CREATE TABLE t (k UInt64, v String) ENGINE = MergeTree ORDER BY k")
	c := dial(t, db)
	var k proto.ColUInt64
	var v proto.ColStr
	k.Append(1)
	v.Append("x")
	err := c.Do(t.Context(), ch.Query{
		Body: "INSERT INTO t (k, v) VALUES", Input: proto.Input{{Name: "k", Data: &k}, {Name: "v", Data: &v}},
		OnInput: func(context.Context) error { _ = c.Close(); return io.ErrUnexpectedEOF },
	})
	if err == nil {
		t.Fatal("no error")
	}
	if n := number(t, dial(t, db), "SELECT count() FROM t"); n != 0 {
		t.Errorf("%d rows", n)
	}
}
