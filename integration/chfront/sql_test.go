package main

import (
	"testing"

	"github.com/ClickHouse/ch-go/proto"
)

func TestInsertTarget(t *testing.T) {
	for q, want := range map[string]insertInto{
		"INSERT INTO t VALUES":                             {"t", ""},
		"INSERT INTO db.t (a, b) VALUES":                   {"db.t", "(a, b)"},
		`INSERT INTO "db"."t" ("a","b") VALUES`:            {"`db`.`t`", "(`a`,`b`)"},
		"insert into table `d b`.t (a)\nformat Native ;":   {"`d b`.t", "(a)"},
		"INSERT INTO t FORMAT Native":                      {"t", ""},
		"INSERT INTO t":                                    {"t", ""},
		"INSERT INTO t SELECT 1":                           {},
		"INSERT INTO t (a) SELECT a FROM u":                {},
		"INSERT INTO t VALUES (1)":                         {},
		"INSERT INTO t WITH 1 AS a SELECT a":               {},
		"SELECT 1":                                         {},
		"CREATE TABLE t (a String) ENGINE = Memory":        {},
		"INSERT INTO t (a) SETTINGS x = 1 SELECT a FROM u": {},
	} {
		got, ok := insertTarget(q)
		if ok != (want != insertInto{}) || got != want {
			t.Errorf("%s: %+v, %v", q, got, ok)
		}
	}
}

func TestWithSettings(t *testing.T) {
	s := []proto.Setting{{Key: "a", Value: "1"}, {Key: "b", Value: "it's"}}
	for q, want := range map[string]string{
		"SELECT 1;":                       `SELECT 1 SETTINGS a = '1', b = 'it\'s'`,
		"WITH 1 AS x SELECT x":            `WITH 1 AS x SELECT x SETTINGS a = '1', b = 'it\'s'`,
		"SELECT 1 SETTINGS max_threads=1": "SELECT 1 SETTINGS max_threads=1",
		"DROP TABLE t":                    "DROP TABLE t",
		"DROP TABLE IF EXISTS t SYNC":     "DROP TABLE IF EXISTS t",
		"DROP VIEW v no delay ;":          "DROP VIEW v",
		"SELECT 'DROP TABLE t SYNC'":      `SELECT 'DROP TABLE t SYNC' SETTINGS a = '1', b = 'it\'s'`,
	} {
		if got := withSettings(q, s); got != want {
			t.Errorf("%s: %s", q, got)
		}
	}
	if got := settingsClause(nil); got != "" {
		t.Errorf("no settings: %q", got)
	}
}

func TestCodeOf(t *testing.T) {
	for text, want := range map[string]int{
		"Code: 60. DB::Exception: x": 60, "x": 1000, "Code: 99999999999999999999": 1000,
	} {
		if got := codeOf(text); got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
}
