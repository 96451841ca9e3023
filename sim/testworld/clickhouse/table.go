package clickhouse

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// table is a stored table: all rows that were ever inserted, in the order of their inserts.
type table struct {
	def    *createTable
	cols   []vec
	byName map[string]int
	key    []int // columns of the sorting key
	// version is the column by which ReplacingMergeTree replaces rows; -1: every row stays.
	version int
	// month is the column of which the partition is the month; -1: one partition.
	month int

	rows   int
	newest map[string]int // by partition and key: the row that FINAL shows
	final  []bool         // by row: it is shown by FINAL
	merged []bool         // by row: a merge has removed it

	window int      // blocks whose ids are kept
	ids    []uint64 // of blocks inserted with insert_deduplicate=1
}

func newTable(def *createTable, defaultWindow int) (*table, error) {
	t := &table{def: def, byName: map[string]int{}, version: -1, month: -1, newest: map[string]int{},
		window: defaultWindow}
	for i, c := range def.columns {
		v, err := newVec(c.typ)
		if err != nil {
			return nil, err
		}
		t.cols = append(t.cols, v)
		t.byName[c.name] = i
	}
	column := func(n string) (int, error) {
		i, ok := t.byName[strings.TrimSpace(n)]
		if !ok {
			return 0, exception(proto.ErrUnknownIdentifier, "Missing columns: '%s'", n)
		}
		return i, nil
	}
	var err error
	switch {
	case def.engine == "MergeTree":
	case def.version != "":
		if t.version, err = column(def.version); err != nil {
			return nil, err
		}
	default:
		return nil, exception(proto.ErrUnknownStorage, "The model knows no engine %s", def.engine)
	}
	if def.partition != "" {
		n, ok := strings.CutPrefix(def.partition, "toYYYYMM(")
		if !ok {
			return nil, exception(proto.ErrNotImplemented, "The model knows no partition key %s", def.partition)
		}
		if t.month, err = column(strings.TrimSuffix(n, ")")); err != nil {
			return nil, err
		}
	}
	for n := range strings.SplitSeq(sortingKey(def), ",") {
		i, err := column(n)
		if err != nil {
			return nil, err
		}
		t.key = append(t.key, i)
	}
	for _, kv := range def.settings {
		if kv[0] == "non_replicated_deduplication_window" {
			if t.window, err = strconv.Atoi(kv[1]); err != nil {
				return nil, exception(proto.ErrSyntaxError, "%s = %s", kv[0], kv[1])
			}
		}
	}
	return t, nil
}

// add executes ADD COLUMN. Rows that are there have the default value. Relations that were read before keep the columns
// and the names that they had.
func (t *table) add(columns []newColumn) error {
	cols, byName, defs := slices.Clone(t.cols), maps.Clone(t.byName), slices.Clone(t.def.columns)
	key, version, month := slices.Clone(t.key), t.version, t.month
	for _, c := range columns {
		if _, ok := byName[c.name]; ok {
			if c.ifNotExists {
				continue
			}
			return exception(proto.ErrDuplicateColumn, "Cannot add column %s: column with this name already exists",
				c.name)
		}
		v, err := newVec(c.typ)
		if err != nil {
			return err
		}
		v.zero(t.rows)
		at := len(cols)
		if c.after != "" {
			i, ok := byName[c.after]
			if !ok {
				return exception(proto.ErrNotFoundColumnInBlock, "Wrong column name %s", c.after)
			}
			at = i + 1
		}
		cols, defs = slices.Insert(cols, at, v), slices.Insert(defs, at, c.columnDef)
		for i := range defs {
			byName[defs[i].name] = i
		}
		for _, place := range []*int{&version, &month} {
			if *place >= at {
				*place++
			}
		}
		for i := range key {
			if key[i] >= at {
				key[i]++
			}
		}
	}
	def := *t.def
	def.columns = defs
	t.def, t.cols, t.byName, t.key, t.version, t.month = &def, cols, byName, key, version, month
	return nil
}

func sortingKey(def *createTable) string {
	return strings.TrimSuffix(strings.TrimPrefix(def.key, "("), ")")
}

// engineFull is the column of that name in system.tables.
func (d *createTable) engineFull() string {
	var b strings.Builder
	b.WriteString(d.engine)
	if d.partition != "" {
		b.WriteString(" PARTITION BY " + d.partition)
	}
	b.WriteString(" ORDER BY " + d.key)
	if d.ttl != "" {
		b.WriteString(" TTL " + d.ttl)
	}
	b.WriteString(" SETTINGS ")
	for _, kv := range d.settings {
		b.WriteString(kv[0] + " = " + kv[1] + ", ")
	}
	b.WriteString("index_granularity = 8192")
	return b.String()
}

func showColumns(columns []columnDef) string {
	var defs []string
	for _, c := range columns {
		s := "`" + c.name + "` " + c.typ
		if c.comment != "" {
			s += " COMMENT " + quoteText(c.comment)
		}
		if c.ttl != "" {
			s += " TTL " + c.ttl
		}
		defs = append(defs, s)
	}
	return strings.Join(defs, ", ")
}

func (d *createTable) show() string {
	s := fmt.Sprintf("CREATE TABLE %s.%s (%s) ENGINE = %s", d.name.database, d.name.table, showColumns(d.columns),
		d.engineFull())
	if d.comment != "" {
		s += " COMMENT " + quoteText(d.comment)
	}
	return s
}

func (v *createView) show() string {
	return fmt.Sprintf("CREATE VIEW %s.%s (%s) AS %s COMMENT %s", v.name.database, v.name.table, showColumns(v.columns),
		v.query, quoteText(v.comment))
}

func quoteText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// block is the rows of one INSERT: all columns of the table.
type block struct {
	cols []vec
	rows int
	// parts are the rows by partition, in the order in which the partitions appear.
	parts [][]int
	names []string // of the partitions
	dedup bool
	token string
}

// newBlock completes the columns given and splits the rows by partition.
func (t *table) newBlock(columns []string, given []vec, rows int) *block {
	b := &block{rows: rows}
	for i := range t.cols {
		if j := slices.Index(columns, t.def.columns[i].name); j >= 0 {
			b.cols = append(b.cols, given[j])
			continue
		}
		v := t.cols[i].empty()
		v.zero(rows)
		b.cols = append(b.cols, v)
	}
	at := map[string]int{}
	for i := range rows {
		p := "all"
		if t.month >= 0 {
			p = dateOf(b.cols[t.month].n[i]).Format("200601")
		}
		k, ok := at[p]
		if !ok {
			k = len(b.parts)
			at[p] = k
			b.parts = append(b.parts, nil)
			b.names = append(b.names, p)
		}
		b.parts[k] = append(b.parts[k], i)
	}
	return b
}

// accepts checks the constraints.
func (t *table) accepts(b *block) error {
	for _, c := range t.def.checks {
		for i := range b.rows {
			ok, err := matches(c.cond, relation{cols: b.cols, byName: t.byName}, i)
			if err != nil {
				return err
			}
			if !ok {
				return exception(proto.ErrViolatedConstraint, "Constraint `%s` for table %s.%s is violated at row %d",
					c.name, t.def.name.database, t.def.name.table, i+1)
			}
		}
	}
	return nil
}

// insertPart makes one partition of the block visible. It returns false if it was dropped as a repeat.
func (t *table) insertPart(b *block, part int) bool {
	rows := b.parts[part]
	var key []byte
	if b.dedup && t.window > 0 {
		h := fnv.New64a()
		h.Write([]byte(b.names[part] + "\x00" + b.token))
		if b.token == "" {
			for _, i := range rows {
				key = key[:0]
				for c := range b.cols {
					key = b.cols[c].key(key, i)
				}
				h.Write(key)
			}
		}
		id := h.Sum64()
		if slices.Contains(t.ids, id) {
			return false
		}
		t.ids = append(t.ids, id)
		if len(t.ids) > t.window {
			t.ids = t.ids[1:]
		}
	}
	for _, i := range rows {
		n := t.rows
		for c := range t.cols {
			t.cols[c].take(&b.cols[c], i)
		}
		t.rows++
		t.final, t.merged = append(t.final, true), append(t.merged, false)
		if t.version < 0 {
			continue
		}
		key = append(append(key[:0], b.names[part]...), 0)
		for _, c := range t.key {
			key = t.cols[c].key(key, n)
		}
		old, ok := t.newest[string(key)]
		switch v := &t.cols[t.version]; {
		case !ok:
		case v.compare(old, n) > 0:
			t.final[n] = false
			continue
		default: // of equal versions the last one inserted
			t.final[old] = false
		}
		t.newest[string(key)] = n
	}
	return true
}

// merge removes what FINAL does not show.
func (t *table) merge() {
	for i, shown := range t.final {
		t.merged[i] = !shown
	}
}

// relation returns the table's rows as a SELECT sees them.
func (t *table) relation(final bool) relation {
	r := relation{cols: t.cols, byName: t.byName, rows: []int{}}
	for i := range t.rows {
		if final && t.final[i] || !final && !t.merged[i] {
			r.rows = append(r.rows, i)
		}
	}
	return r
}
