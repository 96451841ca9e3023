package main

import (
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
)

// FuzzSQL: no statement makes the front panic. What the front passes on is the statement, or the statement without a
// SYNC, or the statement followed by settings.
func FuzzSQL(f *testing.F) {
	for _, q := range []string{
		"INSERT INTO `a`.\"b\" (x, y) FORMAT Native;", "INSERT INTO t SELECT 1",
		"DROP TABLE t SYNC", "drop view v no delay ;",
		"WITH 1 AS x SELECT x", "((SELECT 1))", "SELECT 'SETTINGS'", "INSERT INTO \"unclosed VALUES",
		"DROP", "\x00", strings.Repeat("(", 500),
	} {
		f.Add(q, "max_threads", "it's")
	}
	f.Fuzz(func(t *testing.T, q, key, value string) {
		if into, ok := insertTarget(q); ok && (into.table == "" || strings.Contains(into.table, `"`)) {
			t.Fatalf("%q goes into %q", q, into.table)
		}
		got := withSettings(q, []proto.Setting{{Key: key, Value: value}})
		plain := strings.TrimRight(strings.TrimSpace(q), ";")
		rest, ok := strings.CutPrefix(got, plain)
		switch {
		case ok && (rest == "" || rest == " SETTINGS "+key+" = "+quoteText(value)):
		case strings.HasPrefix(plain, got) && dropRE.MatchString(plain):
		default:
			t.Fatalf("%q became %q", q, got)
		}
		codeOf(q)
	})
}
