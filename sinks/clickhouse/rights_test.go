package clickhouse_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	model "deckle/sim/testworld/clickhouse"
	"deckle/sinks/clickhouse"
)

// needs are the grants that a statement takes, as ClickHouse has them, for the database analytics.
func needs(q string) (grants []string) {
	const on = " ON analytics.*"
	for _, row := range []struct {
		begin  string
		rights []string
	}{
		{"CREATE DATABASE", []string{"CREATE DATABASE"}},
		{"CREATE TABLE", []string{"CREATE TABLE"}},
		{"CREATE VIEW", []string{"CREATE VIEW", "SELECT"}},
		{"CREATE OR REPLACE VIEW", []string{"CREATE VIEW", "DROP VIEW", "SELECT"}},
		{"INSERT", []string{"INSERT"}},
	} {
		if strings.HasPrefix(q, row.begin) {
			for _, r := range row.rights {
				grants = append(grants, r+on)
			}
			return grants
		}
	}
	switch {
	case q == "SELECT 1":
		return nil
	case strings.HasPrefix(q, "SELECT"):
		for _, table := range regexp.MustCompile(`system\.\w+`).FindAllString(q, -1) {
			grants = append(grants, "SELECT ON "+table)
		}
		if strings.Contains(q, "FROM `analytics") { // and another database of the tests
			grants = append(grants, "SELECT"+on)
		}
	case strings.HasPrefix(q, "ALTER"):
		for _, right := range []string{"ADD COLUMN", "COMMENT COLUMN"} {
			if strings.Contains(q, " "+right+" ") {
				grants = append(grants, "ALTER "+right+on)
			}
		}
	}
	if grants == nil {
		grants = []string{"nobody knows the right of: " + q}
	}
	return grants
}

// TestRights: deploy/rights/clickhouse.sql grants what the sink's statements take, from the first table to a later
// level, and nothing else. No server of the tests has an access control of its own.
func TestRights(t *testing.T) {
	var mu sync.Mutex
	// This one is taken where somebody else has made a table, without the settings of durability.
	taken := map[string]bool{"SELECT ON system.merge_tree_settings": true}
	for _, run := range []func(*testing.T, clickhouse.Options){clickhouse.Levels, clickhouse.LaterLevels} {
		srv := model.New(model.Options{})
		t.Cleanup(srv.Close)
		srv.SetHook(func(q model.Query) model.Fault {
			mu.Lock()
			defer mu.Unlock()
			for _, g := range needs(strings.TrimSpace(q.Body)) {
				taken[g] = true
			}
			return model.Fault{}
		})
		run(t, modelOptions(srv))
	}
	file, err := os.ReadFile("../../deploy/rights/clickhouse.sql")
	if err != nil {
		t.Fatal(err)
	}
	granted := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^GRANT (.*) TO deckle;$`).FindAllStringSubmatch(string(file), -1) {
		granted[m[1]] = true
	}
	for _, g := range slices.Sorted(maps.Keys(taken)) {
		if !granted[g] {
			t.Errorf("taken, and not granted: %s", g)
		}
	}
	for _, g := range slices.Sorted(maps.Keys(granted)) {
		if !taken[g] {
			t.Errorf("granted, and not taken: %s", g)
		}
	}
}
