package clickhouse

import (
	"errors"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWhatIsNotUnderstoodIsRefused: the model does not guess.
func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	s := New(Options{})
	defer s.Close()
	const create = "CREATE TABLE t (a UInt64, d Date, s String) ENGINE = ReplacingMergeTree(a) " +
		"PARTITION BY toYYYYMM(d) ORDER BY a"
	for _, tc := range []struct {
		statement string
		code      proto.Error
	}{
		{create, 0},
		{create, proto.ErrTableAlreadyExists},
		{"DROP TABLE t", 0},
		{"DROP TABLE t", proto.ErrUnknownTable},
		{strings.Replace(create, "String", "IPv6", 1), proto.ErrUnknownType},
		{strings.Replace(create, "String", "Enum8('a' = 7)", 1), proto.ErrNotImplemented},
		{strings.Replace(create, "ReplacingMergeTree(a)", "ReplacingMergeTree(x)", 1), proto.ErrUnknownIdentifier},
		{strings.Replace(create, "ReplacingMergeTree(a)", "Log", 1), proto.ErrUnknownStorage},
		{strings.Replace(create, "toYYYYMM(d)", "toMonday(d)", 1), proto.ErrNotImplemented},
		{strings.Replace(create, "ORDER BY a", "ORDER BY (a, x)", 1), proto.ErrUnknownIdentifier},
		{create + " SETTINGS index_granularity = 8192 COMMENT 'it\\'s `one`'", 0},
		{"CREATE DATABASE default", proto.ErrDatabaseAlreadyExists},
		{"CREATE DATABASE IF NOT EXISTS default", 0},
		{"CREATE TABLE nowhere.t (a UInt64) ENGINE = MergeTree ORDER BY a", proto.ErrUnknownDatabase},
		{"CREATE OR REPLACE VIEW v (a UInt64) AS SELECT a FROM `default`.`t` FINAL COMMENT 'c'", 0},
		{"CREATE OR REPLACE VIEW t (a UInt64) AS SELECT a FROM t", proto.ErrTableAlreadyExists},
		{"CREATE OR REPLACE VIEW w (a UInt64) AS SELECT sum(a) AS a FROM `default`.`t` FINAL", proto.ErrNotImplemented},
		{"ALTER TABLE t DROP COLUMN s", proto.ErrSyntaxError},
		{"ALTER TABLE x ADD CONSTRAINT c CHECK a != 7", proto.ErrUnknownTable},
		{"ALTER TABLE t COMMENT COLUMN s 'it\\'s'", 0},
		{"ALTER TABLE t COMMENT COLUMN x 'c'", proto.ErrUnknownIdentifier},
		{"ALTER TABLE x COMMENT COLUMN s 'c'", proto.ErrUnknownTable},
		{"TRUNCATE TABLE t", proto.ErrSyntaxError},
		{"SELECT 'a", proto.ErrSyntaxError},
		{"SELECT a ? b", proto.ErrSyntaxError},
	} {
		err := s.Exec("default", tc.statement)
		e, _ := errors.AsType[*Exception](err)
		if tc.code == 0 && err != nil || tc.code != 0 && (e == nil || e.Code != int(tc.code)) {
			t.Errorf("%s: got %v, want %v", tc.statement, err, tc.code)
		}
	}
	for q, code := range map[string]proto.Error{
		"SELECT a, s FROM t FINAL WHERE a IN (1, 2) AND s = 'x' ORDER BY a": 0,
		"SELECT count() FROM v": 0,
		"SELECT avg(a) FROM t":  proto.ErrSyntaxError, "SELECT a FROM t JOIN v": proto.ErrSyntaxError,
		"SELECT x FROM t": proto.ErrUnknownIdentifier,
		"SELECT s FROM v": proto.ErrUnknownIdentifier, "SELECT a, count() FROM t": proto.ErrNotAnAggregate,
		"SELECT name FROM system.parts": proto.ErrUnknownTable,
	} {
		st, err := parse(q)
		if err == nil {
			_, err = s.query("default", st.(*selection))
		}
		e, _ := errors.AsType[*Exception](err)
		if code == 0 && err != nil || code != 0 && (e == nil || e.Code != int(code)) {
			t.Errorf("%s: got %v, want %v", q, err, code)
		}
	}
}
