package clickhouse

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/ch-go/proto"
)

// define executes a statement that defines something. The caller holds the lock.
func (s *Server) define(database string, st any) error {
	n := targetOf(st)
	if n.database == "" {
		n.database = database
	}
	db := s.databases[n.database]
	if create, ok := st.(*createDatabase); ok {
		switch {
		case db == nil:
			s.databases[n.database] = newDatabase()
			s.changes++
		case !create.ifNotExists:
			return exception(proto.ErrDatabaseAlreadyExists, "Database %s already exists", n.database)
		}
		return nil
	}
	if _, ok := st.(*noop); ok {
		return nil
	}
	if _, ok := st.(*dropDatabase); ok {
		delete(s.databases, n.database)
		s.changes++
		return nil
	}
	if db == nil {
		return exception(proto.ErrUnknownDatabase, "Database %s does not exist", n.database)
	}
	_, isTable := db.tables[n.table]
	_, isView := db.views[n.table]
	switch st := st.(type) {
	case *createTable:
		if isTable || isView {
			if st.ifNotExists {
				return nil
			}
			return exception(proto.ErrTableAlreadyExists, "Table %s.%s already exists", n.database, n.table)
		}
		st.name = n
		t, err := newTable(st, s.opts.DedupWindow)
		if err != nil {
			return err
		}
		db.tables[n.table] = t
	case *createView:
		if isTable {
			return exception(proto.ErrTableAlreadyExists, "Table %s.%s already exists", n.database, n.table)
		}
		if isView && st.ifNotExists {
			return nil
		}
		st.name = n
		v, err := understand(st)
		if err != nil {
			return err
		}
		db.views[n.table] = v
	case *dropTable:
		if !isTable && !isView {
			return unknownTable(n)
		}
		delete(db.tables, n.table)
		delete(db.views, n.table)
	case *addConstraint:
		if !isTable {
			return unknownTable(n)
		}
		def := db.tables[n.table].def
		def.checks = append(def.checks, st.check)
	case *addColumns:
		if !isTable {
			return unknownTable(n)
		}
		if err := db.tables[n.table].add(st.columns); err != nil {
			return err
		}
	case *recomment:
		if !isTable {
			return unknownTable(n)
		}
		def := db.tables[n.table].def
		i := slices.IndexFunc(def.columns, func(c columnDef) bool { return c.name == st.column })
		if i < 0 {
			return exception(proto.ErrUnknownIdentifier, "Table %s.%s has no column %s", n.database, n.table, st.column)
		}
		def.columns[i].comment = st.comment
	case *optimize:
		if !isTable {
			return unknownTable(n)
		}
		db.tables[n.table].merge()
		return nil
	default:
		return exception(proto.ErrNotImplemented, "The model does not execute %T", st)
	}
	s.changes++
	return nil
}

func newDatabase() *database { return &database{map[string]*table{}, map[string]*view{}} }

// mergeTreeSettings are server defaults of table settings that the sink asks for.
var mergeTreeSettings = map[string]string{"fsync_after_insert": "0", "fsync_part_directory": "0"}

// system returns a system table. The caller holds the lock.
func (s *Server) system(which string) (relation, error) {
	var names []string
	var rows [][]string
	switch which {
	case "tables":
		names = []string{"database", "name", "engine", "engine_full", "partition_key", "sorting_key", "comment",
			"create_table_query"}
	case "columns":
		names = []string{"database", "table", "name", "type", "comment"}
	case "merge_tree_settings":
		names = []string{"name", "value"}
		for _, n := range slices.Sorted(maps.Keys(mergeTreeSettings)) {
			rows = append(rows, []string{n, mergeTreeSettings[n]})
		}
		rows = append(rows, []string{"non_replicated_deduplication_window", fmt.Sprint(s.opts.DedupWindow)})
	default:
		return relation{}, unknownTable(name{"system", which})
	}
	columns := func(db, table string, defs []columnDef) {
		for _, c := range defs {
			rows = append(rows, []string{db, table, c.name, c.typ, c.comment})
		}
	}
	for _, dbName := range slices.Sorted(maps.Keys(s.databases)) {
		if which == "merge_tree_settings" {
			break
		}
		db := s.databases[dbName]
		for _, n := range slices.Sorted(maps.Keys(db.tables)) {
			d := db.tables[n].def
			if which == "columns" {
				columns(dbName, n, d.columns)
				continue
			}
			engine := d.engine
			if d.version != "" {
				engine = "ReplacingMergeTree"
			}
			rows = append(rows, []string{dbName, n, engine, d.engineFull(), d.partition, sortingKey(d), d.comment,
				d.show()})
		}
		for _, n := range slices.Sorted(maps.Keys(db.views)) {
			d := db.views[n].def
			if which == "columns" {
				columns(dbName, n, d.columns)
				continue
			}
			rows = append(rows, []string{dbName, n, "View", "", "", "", d.comment, d.show()})
		}
	}
	cols := make([]vec, len(names))
	for i := range cols {
		cols[i] = mustVec("String")
		for _, r := range rows {
			cols[i].s = append(cols[i].s, r[i])
		}
	}
	return newRelation(names, cols), nil
}
