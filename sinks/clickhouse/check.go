package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"deckle/schema/level"
	"deckle/sinks"
)

// foundTable is the entry of one name in system.tables and system.columns.
type foundTable struct {
	engine, full, partition, key, comment string
	create                                string            // the whole statement
	types                                 map[string]string // by column
}

// EnsureSchema creates the database and whatever is missing in it, replaces views of another version, and claims the
// tables for this cluster and pipeline. A table that does not fit, a table missing beside a ledger that has plans, or
// another owner is a *sinks.StopError. It may be called at any time, and by several nodes at once. The level is that of
// the plans that were written, at least Options.Level.
func (s *Sink) EnsureSchema(ctx context.Context) error {
	return s.ensure(ctx, func() level.Level { return level.Level(s.level.Load()) })
}

func (s *Sink) ensure(ctx context.Context, to func() level.Level) error {
	if err := s.checking.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.checking.Release(1)
	l := to()
	if l == 0 {
		return nil
	}
	switch err := s.ensureSchema(ctx, s.layouts[l]); {
	case err == nil:
		s.level.Store(max(s.level.Load(), uint32(l)))
		s.ensured.Store(uint32(l))
		return nil
	case uint32(l) <= s.ensured.Load():
		s.ensured.Store(0)
		return err
	default: // what fails at a higher level does not hold back the plans of a lower one
		return err
	}
}

// ready checks the schema once for a level, and again after an error that casts doubt on it.
func (s *Sink) ready(ctx context.Context, l level.Level) error {
	if s.ensured.Load() >= uint32(l) {
		return nil
	}
	return s.ensure(ctx, func() level.Level {
		if s.ensured.Load() >= uint32(l) { // somebody else has checked it meanwhile
			return 0
		}
		return max(l, level.Level(s.level.Load()))
	})
}

// schemaError examines the cause of an error of classSchema: the check names what is wrong. If it finds nothing wrong,
// or has mended it, the error is returned for a retry.
func (s *Sink) schemaError(ctx context.Context, err error) error {
	s.ensured.Store(0)
	if e := s.EnsureSchema(ctx); e != nil {
		return errors.Join(e, err)
	}
	return err
}

func (s *Sink) ensureSchema(ctx context.Context, y *layout) error {
	if s.opts.ClusterID == "" || s.opts.Pipeline == "" {
		return errors.New("clickhouse: ClusterID and Pipeline are required")
	}
	db := s.opts.Database
	found, err := s.readTables(ctx)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		if err := s.CreateDatabase(ctx); err != nil {
			return err
		}
	}
	planned := false
	if f, ok := found[ledgerTable]; ok {
		if _, err := checkTable(db, &ledger, f); err != nil {
			return err
		}
		if planned, err = s.checkOwner(ctx); err != nil {
			return err
		}
	}
	for _, t := range y.stored {
		if f, ok := found[t.name]; ok {
			lacks, err := checkTable(db, t, f)
			if err != nil {
				return err
			}
			if err := s.checkDurability(ctx, t, f); err != nil {
				return err
			}
			if err := s.addColumns(ctx, t, lacks); err != nil {
				return err
			}
			if err := s.reword(ctx, t, f); err != nil {
				return err
			}
			continue
		}
		if planned {
			return missing(db, t.name)
		}
		if err := s.exec(ctx, t.ddl(db)); err != nil {
			return fmt.Errorf("clickhouse: create table %s.%s: %w", db, t.name, err)
		}
		s.opts.Logger.Info("created ClickHouse table", "database", db, "table", t.name)
	}
	if !planned { // a plan is written after the claim
		if err := s.claim(ctx); err != nil {
			return err
		}
	}
	return s.makeViews(ctx, y, found)
}

// addColumns gives the table the columns of a later level that it lacks.
func (s *Sink) addColumns(ctx context.Context, t *table, lacks []column) error {
	if len(lacks) == 0 {
		return nil
	}
	names := make([]string, len(lacks))
	for i, c := range lacks {
		names[i] = c.name
	}
	columns := strings.Join(names, ", ")
	err := s.exec(ctx, t.alter(s.opts.Database, lacks))
	if e, ok := ch.AsException(err); ok && e.Code == proto.ErrAccessDenied {
		err = fmt.Errorf("a right is missing: GRANT ALTER ADD COLUMN ON %s.* TO %s: %w", quoteIdent(s.opts.Database),
			quoteIdent(s.opts.User), err)
	}
	if err != nil {
		return fmt.Errorf("clickhouse: add %s to table %s.%s: %w", columns, s.opts.Database, t.name, err)
	}
	s.opts.Logger.Info("added columns to a ClickHouse table", "database", s.opts.Database, "table", t.name, "columns",
		columns)
	return nil
}

// reword gives the columns of a table of a level before the comments of this one. No row depends on them: where the
// right is missing the table keeps the former ones, and the log says so.
func (s *Sink) reword(ctx context.Context, t *table, f *foundTable) error {
	for i := range t.columns {
		c := &t.columns[i]
		if c.former == "" || !strings.Contains(f.create, "COMMENT "+quoteText(c.former)) {
			continue
		}
		err := s.exec(ctx, t.recomment(s.opts.Database, c))
		if e, ok := ch.AsException(err); ok && e.Code == proto.ErrAccessDenied {
			s.opts.Logger.Warn("a ClickHouse column keeps the comment of a former level: GRANT ALTER COMMENT COLUMN",
				"database", s.opts.Database, "table", t.name, "column", c.name, "comment", c.comment)
			continue
		}
		if err != nil {
			return fmt.Errorf("clickhouse: comment of column %s of table %s.%s: %w", c.name, s.opts.Database, t.name,
				err)
		}
	}
	return nil
}

// makeViews makes the views that are missing or of another version. What it has made it reads again, because another
// node may make those of another level at the same time: the view of the highest level stays.
func (s *Sink) makeViews(ctx context.Context, y *layout, found map[string]*foundTable) error {
	db := s.opts.Database
	const attempts = 10
	for range attempts {
		made := false
		for _, v := range y.views(db) {
			f, ok := found[v.name]
			if ok && f.engine != "View" {
				return &sinks.StopError{
					Err: fmt.Errorf("clickhouse: %s.%s is a table with engine %s, and the name of a view", db, v.name,
						f.engine),
					Hint: "rename the table, or give Deckle another database",
				}
			}
			if ok && (f.comment == v.mark() || levelOf(f.comment) > y.level) {
				continue
			}
			verb := create
			if ok {
				verb = replace
			}
			if err := s.exec(ctx, v.ddl(verb, db)); err != nil {
				return fmt.Errorf("clickhouse: create view %s.%s: %w", db, v.name, err)
			}
			made = true
			s.opts.Logger.Info("created ClickHouse view", "database", db, "view", v.name, "level", y.level,
				"replaced", ok)
		}
		if !made {
			return nil
		}
		var err error
		if found, err = s.readTables(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("clickhouse: others have replaced the views of database %s %d times", db, attempts)
}

func missing(db, name string) error {
	return &sinks.StopError{
		Err: fmt.Errorf("clickhouse: table %s.%s is missing, although plans have been written to it", db, name),
		Hint: "restore it from a backup; Deckle does not create it again, because the rows it held cannot be written " +
			"again and every total would be wrong",
	}
}

// readTables returns the tables and views of the database by name.
func (s *Sink) readTables(ctx context.Context) (map[string]*foundTable, error) {
	found := map[string]*foundTable{}
	err := s.rows(ctx, "SELECT name, engine, engine_full, partition_key, sorting_key, comment, create_table_query "+
		"FROM system.tables WHERE database = "+quoteText(s.opts.Database),
		7, func(r []string) error {
			found[r[0]] = &foundTable{engine: r[1], full: r[2], partition: r[3], key: r[4], comment: r[5], create: r[6],
				types: map[string]string{}}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("clickhouse: read system.tables: %w", err)
	}
	err = s.rows(ctx, "SELECT table, name, type FROM system.columns WHERE database = "+quoteText(s.opts.Database), 3,
		func(r []string) error {
			if f, ok := found[r[0]]; ok {
				f.types[r[1]] = r[2]
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("clickhouse: read system.columns: %w", err)
	}
	return found, nil
}

// checkTable compares a table with its declaration, and returns the columns of later levels that it lacks. It may have
// further columns, because inserts name theirs.
func checkTable(db string, t *table, f *foundTable) (lacks []column, err error) {
	const use = "rename the table so that Deckle creates its own, or give it another database; " +
		"docs/clickhouse.md shows the tables"
	refuse := func(hint, format string, args ...any) error {
		return &sinks.StopError{
			Err:  fmt.Errorf("clickhouse: table %s.%s does not fit: %s", db, t.name, fmt.Sprintf(format, args...)),
			Hint: hint,
		}
	}
	for _, c := range t.columns {
		switch typ, ok := f.types[c.name]; {
		case !ok && c.later:
			lacks = append(lacks, c)
		case !ok:
			return nil, refuse(use, "column %s: expected type %s, found no such column", c.name, c.typ)
		case squeeze(typ) != squeeze(c.typ) && c.later:
			return nil, refuse(fmt.Sprintf("a column of that name was added by somebody else: "+
				"ALTER TABLE %s.%s RENAME COLUMN %s TO <another name>", quoteIdent(db), quoteIdent(t.name),
				quoteIdent(c.name)), "column %s: expected type %s, found type %s", c.name, c.typ, typ)
		case squeeze(typ) != squeeze(c.typ):
			return nil, refuse(use, "column %s: expected type %s, found type %s", c.name, c.typ, typ)
		}
	}
	want := "ReplacingMergeTree(" + t.version + ")"
	if f.engine != "ReplacingMergeTree" || !strings.HasPrefix(f.full, want) {
		return nil, refuse(use, "expected engine %s, found %s (replicated tables are not supported yet)", want,
			engineOf(f))
	}
	if key := strings.Join(t.key, ", "); squeeze(f.key) != squeeze(key) {
		return nil, refuse(use, "expected sorting key (%s), found (%s)", key, f.key)
	}
	if squeeze(f.partition) != squeeze(t.partition) {
		return nil, refuse(use, "expected partition key %q, found %q", t.partition, f.partition)
	}
	return lacks, checkTTL(db, t, f)
}

// checkTTL refuses a TTL. A merge that applies one deletes a row's newest version, or resets a column of it, while an
// older version may lie in a part that is not merged yet: FINAL would show the older version, and every total would be
// wrong.
func checkTTL(db string, t *table, f *foundTable) error {
	var what, remove string
	switch {
	case hasTTL(f.full):
		what, remove = "a TTL", "REMOVE TTL"
	case hasTTL(f.create):
		what, remove = "a column with a TTL", "MODIFY COLUMN <that column> REMOVE TTL"
	default:
		return nil
	}
	return &sinks.StopError{
		Err: fmt.Errorf("clickhouse: table %s.%s does not fit: it has %s, and a merge that applies it may "+
			"bring superseded rows back", db, t.name, what),
		Hint: fmt.Sprintf("ALTER TABLE %s.%s %s; what the TTL has deleted already must come from a backup", db, t.name,
			remove),
	}
}

var (
	quoted  = regexp.MustCompile("(?s)'(?:[^'\\\\]|\\\\.|'')*'|`(?:[^`\\\\]|\\\\.|``)*`|\"(?:[^\"\\\\]|\\\\.)*\"")
	ttlWord = regexp.MustCompile(`\bTTL\b`)
)

// hasTTL tells whether a statement, as the server shows it (keywords in capitals), has a TTL clause. Texts and quoted
// names do not count.
func hasTTL(statement string) bool {
	return ttlWord.MatchString(quoted.ReplaceAllString(statement, "''"))
}

func engineOf(f *foundTable) string {
	full, _, _ := strings.Cut(f.full, " ")
	return cmp.Or(full, f.engine)
}

func squeeze(s string) string { return strings.ReplaceAll(s, " ", "") }

// checkDurability wants the fsync settings on, by the table's own settings or by the server's defaults for tables.
func (s *Sink) checkDurability(ctx context.Context, t *table, f *foundTable) error {
	_, own, _ := strings.Cut(f.full, " SETTINGS ")
	set := map[string]string{}
	for kv := range strings.SplitSeq(own, ",") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			set[strings.TrimSpace(k)] = strings.Trim(strings.TrimSpace(v), "'")
		}
	}
	var unset []string
	for _, d := range durability {
		if _, ok := set[d]; !ok {
			unset = append(unset, quoteText(d))
		}
	}
	if len(unset) > 0 {
		q := "SELECT name, value FROM system.merge_tree_settings WHERE name IN (" + strings.Join(unset, ", ") + ")"
		if err := s.rows(ctx, q, 2, func(r []string) error { set[r[0]] = r[1]; return nil }); err != nil {
			return fmt.Errorf("clickhouse: read system.merge_tree_settings: %w", err)
		}
	}
	for _, d := range durability {
		if v := set[d]; v != "1" && !strings.EqualFold(v, "true") { // engine_full shows it as the statement wrote it
			return &sinks.StopError{
				Err: fmt.Errorf("clickhouse: table %s.%s does not fit: expected setting %s = 1, found %q",
					s.opts.Database, t.name, d, set[d]),
				Hint: fmt.Sprintf("ALTER TABLE %s.%s MODIFY SETTING %s = 1", s.opts.Database, t.name, d),
			}
		}
	}
	return nil
}

// checkOwner refuses a ledger of another cluster or pipeline. planned tells whether the ledger has a plan.
func (s *Sink) checkOwner(ctx context.Context) (planned bool, err error) {
	var owners []string
	q := "SELECT cluster, pipeline, toString(max(b)) FROM " + s.table(ledgerTable) + " GROUP BY cluster, pipeline"
	err = s.rows(ctx, q, 3, func(r []string) error {
		if r[0] != s.opts.ClusterID || r[1] != s.opts.Pipeline {
			owners = append(owners, r[0]+"/"+r[1])
		} else if r[2] != "0" {
			planned = true
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("clickhouse: read the ledger: %w", err)
	}
	if len(owners) > 0 {
		slices.Sort(owners)
		return false, &sinks.StopError{
			Err: fmt.Errorf("clickhouse: the tables of database %s belong to %s, this is %s/%s",
				s.opts.Database, strings.Join(owners, " and "), s.opts.ClusterID, s.opts.Pipeline),
			Hint: "give each cluster and pipeline a database of its own, or drop the database if that cluster is " +
				"gone for good",
		}
	}
	return planned, nil
}

// claim writes this cluster's claim if the ledger has none, and reads the ledger again: of two clusters that claim it
// at the same time, at least one sees the other's claim.
func (s *Sink) claim(ctx context.Context) error {
	q := fmt.Sprintf("SELECT toString(count()) FROM %s WHERE cluster = %s AND pipeline = %s AND b = 0",
		s.table(ledgerTable), quoteText(s.opts.ClusterID), quoteText(s.opts.Pipeline))
	claimed := false
	if err := s.rows(ctx, q, 1, func(r []string) error { claimed = r[0] != "0"; return nil }); err != nil {
		return fmt.Errorf("clickhouse: read the ledger: %w", err)
	}
	if !claimed {
		if err := s.insertLedger(ctx, ledgerRow{}); err != nil {
			return fmt.Errorf("clickhouse: claim the tables: %w", err)
		}
	}
	_, err := s.checkOwner(ctx)
	return err
}

type blockInfo = proto.Block

func discard() proto.Result { var r proto.Results; return r.Auto() }

// rows runs a query whose columns are all texts.
func (s *Sink) rows(ctx context.Context, q string, columns int, yield func([]string) error) error {
	cols := make([]proto.ColStr, columns)
	res := make(proto.Results, columns)
	for i := range cols {
		res[i] = proto.ResultColumn{Data: &cols[i]}
	}
	return s.query(ctx, ch.Query{Body: q, Result: res, OnResult: func(_ context.Context, b proto.Block) error {
		row := make([]string, columns)
		for i := range b.Rows {
			for j := range cols {
				row[j] = cols[j].Row(i)
			}
			if err := yield(row); err != nil {
				return err
			}
		}
		return nil
	}})
}
