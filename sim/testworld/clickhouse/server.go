package clickhouse

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/ClickHouse/ch-go/proto"
)

// Options configure a server. The zero value is a server that admits everybody and has ClickHouse's defaults.
type Options struct {
	User, Password string
	// DedupWindow is the server's default of the table setting non_replicated_deduplication_window.
	DedupWindow int
	// Before262 is a server older than 26.2, which does not know the setting deduplicate_insert.
	Before262 bool
}

// Server is the model: the databases, and any number of connections to them. It is safe for concurrent use. Inside a
// synctest bubble it must have been made there.
type Server struct {
	opts   Options
	closed chan struct{}
	wg     sync.WaitGroup

	mu        sync.Mutex
	hook      func(Query) Fault
	databases map[string]*database
	conns     map[net.Conn]bool
	late      map[*lateInsert]bool
	changes   uint64
	down      bool
}

type database struct {
	tables map[string]*table
	views  map[string]*view
}

// New returns an empty server.
func New(opts Options) *Server {
	return &Server{
		opts: opts, closed: make(chan struct{}), databases: map[string]*database{"default": {map[string]*table{},
			map[string]*view{}}},
		conns: map[net.Conn]bool{}, late: map[*lateInsert]bool{},
	}
}

// SetHook sets the function that draws the faults, nil for none. Many goroutines call it, and no lock is held
// meanwhile.
func (s *Server) SetHook(hook func(Query) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

// ServeConn answers one connection until it ends, and closes it.
func (s *Server) ServeConn(c net.Conn) error {
	s.mu.Lock()
	down, password := s.down, s.opts.Password
	if !down {
		s.conns[c] = true
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	if down {
		return net.ErrClosed
	}
	return (&Session{Name: "clickhouse model", User: s.opts.User, Password: password,
		Execute: s.execute}).Serve(c)
}

// Serve answers every connection of the listener, until it is closed or the server is.
func (s *Server) Serve(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		s.wg.Go(func() { _ = s.ServeConn(c) })
	}
}

// Dial connects to the server through the process; it fits Options.Dial of the sink.
func (s *Server) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return nil, net.ErrClosed
	default:
	}
	if s.down {
		return nil, errors.New("clickhouse model: connection refused")
	}
	client, server := net.Pipe()
	s.wg.Go(func() { _ = s.ServeConn(newPump(server)) })
	return client, nil
}

// SetDown stops the server, which ends its connections and keeps its data, or starts it again. What was waiting to take
// effect late still does.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	if down {
		s.closeConns()
	}
}

// SetPassword makes another password the one that is demanded, and ends all connections.
func (s *Server) SetPassword(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.Password = password
	s.closeConns()
}

// closeConns ends all connections. The caller holds the lock.
func (s *Server) closeConns() {
	for c := range s.conns {
		_ = c.Close()
	}
}

// Close ends all connections and waits for them. Late inserts never take effect. The data can still be read.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	s.closeConns()
	for l := range s.late {
		l.timer.Stop()
		delete(s.late, l)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Changes counts the changes of the data: it is the same before and after a time in which nothing changed.
func (s *Server) Changes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// Merge merges all parts: no view shows a difference.
func (s *Server) Merge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, db := range s.databases {
		for _, t := range db.tables {
			t.merge()
		}
	}
}

// Exec runs a statement without rows, as an operator would: a DROP, an ALTER … ADD CONSTRAINT. Faults do not apply to
// it.
func (s *Server) Exec(database, q string) error {
	st, err := parse(q)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.define(database, st)
}

// execute runs a query of a connection.
func (s *Server) execute(c *Session, q *proto.Query) error {
	st, err := parse(q.Body)
	if err != nil {
		return err
	}
	info := Query{Kind: DDL, Database: c.Database(), Body: q.Body}
	if a := c.conn.RemoteAddr(); a != nil {
		info.Client = a.String()
	}
	n := targetOf(st)
	if n.database != "" {
		info.Database = n.database
	}
	info.Table = n.table
	switch st := st.(type) {
	case *insert:
		info.Kind = Insert
		return s.insert(c, q, st, info)
	case *selection:
		info.Kind = Select
		var res *result
		return s.run(c, s.draw(info), 0, func(int) (err error) {
			res, err = s.query(info.Database, st)
			return err
		}, func() error { return res.send(c) })
	}
	return s.run(c, s.draw(info), 0, func(int) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.define(info.Database, st)
	}, func() error { return nil })
}

func targetOf(st any) name {
	switch st := st.(type) {
	case *insert:
		return st.name
	case *selection:
		return st.from
	case *createDatabase:
		return name{st.database, ""}
	case *dropDatabase:
		return name{st.database, ""}
	case *createTable:
		return st.name
	case *createView:
		return st.name
	case *dropTable:
		return st.name
	case *addConstraint:
		return st.name
	case *addColumns:
		return st.name
	case *recomment:
		return st.name
	case *optimize:
		return st.name
	}
	return name{}
}

// draw asks the hook.
func (s *Server) draw(q Query) Fault {
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	if hook == nil {
		return Fault{}
	}
	return hook(q)
}

func (s *Server) insert(c *Session, q *proto.Query, st *insert, info Query) error {
	s.mu.Lock()
	t, err := s.table(info.Database, st.name)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	columns := st.columns
	if len(columns) == 0 {
		for _, col := range t.def.columns {
			columns = append(columns, col.name)
		}
	}
	given := make([]vec, len(columns))
	var header []proto.InputColumn
	for i, n := range columns {
		k, ok := t.byName[n]
		if !ok {
			s.mu.Unlock()
			return exception(proto.ErrNoSuchColumnInTable, "No such column %s in table %s.%s", n, info.Database,
				info.Table)
		}
		given[i] = t.cols[k].empty()
		header = append(header, proto.InputColumn{Name: n, Data: given[i].column()})
	}
	s.mu.Unlock()
	if err := c.Send(proto.Block{Columns: len(header)}, header); err != nil {
		return err
	}
	for {
		b, res, err := c.NextBlock()
		if err != nil {
			return err
		}
		if b.End() {
			break
		}
		for _, col := range res {
			i := slices.Index(columns, col.Name)
			if i < 0 {
				return exception(proto.ErrNoSuchColumnInTable, "Column %s was not asked for", col.Name)
			}
			if err := given[i].decode(col.Name, col.Data); err != nil {
				return err
			}
		}
		info.Rows += b.Rows
	}
	if info.Rows == 0 {
		return nil
	}
	s.mu.Lock()
	b := t.newBlock(columns, given, info.Rows)
	s.mu.Unlock()
	// Since 26.2 deduplicate_insert, which is on by default, overrides insert_deduplicate.
	overrides, older := "enable", true
	if s.opts.Before262 {
		overrides = "backward_compatible_choice"
	}
	most := 100
	for _, set := range q.Settings {
		switch set.Key {
		case "insert_deduplicate":
			older = set.Value != "0"
		case "deduplicate_insert":
			switch {
			case !s.opts.Before262:
				overrides = set.Value
			case set.Important:
				return exception(proto.ErrUnknownSetting,
					"Setting %s is neither a builtin setting nor started with the prefix 'SQL_'", set.Key)
			}
		case "insert_deduplication_token":
			b.token = set.Value
		case "max_partitions_per_insert_block":
			if most, err = strconv.Atoi(set.Value); err != nil {
				return exception(proto.ErrCannotParseNumber, "%s = %s", set.Key, set.Value)
			}
		}
	}
	b.dedup = overrides == "enable" || overrides == "backward_compatible_choice" && older
	info.Partitions = len(b.parts)
	if most > 0 && info.Partitions > most {
		return exception(proto.ErrTooManyParts, "Too many partitions for single INSERT block (more than %d)", most)
	}
	return s.run(c, s.draw(info), len(b.parts), func(part int) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		// The table may have been dropped, or created again, meanwhile.
		if now, err := s.table(info.Database, st.name); err != nil {
			return err
		} else if now != t {
			return exception(proto.ErrTableIsDropped, "Table %s.%s is dropped", info.Database, info.Table)
		}
		if len(b.cols) != len(t.cols) { // an ALTER has added columns meanwhile
			b.cols = t.newBlock(columns, given, info.Rows).cols
		}
		if part == 0 {
			if err := t.accepts(b); err != nil {
				return err
			}
		}
		if t.insertPart(b, part) {
			s.changes++
		}
		return nil
	}, func() error { return nil })
}

// table finds a stored table. The caller holds the lock.
func (s *Server) table(database string, n name) (*table, error) {
	if n.database == "" {
		n.database = database
	}
	db, ok := s.databases[n.database]
	if !ok {
		return nil, exception(proto.ErrUnknownDatabase, "Database %s does not exist", n.database)
	}
	t, ok := db.tables[n.table]
	if !ok {
		return nil, unknownTable(n)
	}
	return t, nil
}

// query runs a SELECT.
func (s *Server) query(database string, st *selection) (*result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.relation(database, st)
	if err != nil {
		return nil, err
	}
	return st.run(r)
}

// relation finds what a SELECT reads. The caller holds the lock.
func (s *Server) relation(database string, st *selection) (relation, error) {
	n := st.from
	if n.database == "" {
		n.database = database
	}
	switch {
	case st.from.table == "":
		return relation{rows: []int{0}}, nil
	case n.database == "system":
		return s.system(n.table)
	}
	db := s.databases[n.database]
	if db == nil || db.views[n.table] == nil {
		t, err := s.table(database, n)
		if err != nil {
			return relation{}, err
		}
		return t.relation(st.final), nil
	}
	v := db.views[n.table]
	if v.plain != nil {
		inner, err := s.relation(n.database, v.plain)
		if err != nil {
			return relation{}, err
		}
		own := map[string]int{} // what the view shows
		for _, c := range v.def.columns {
			if _, err := inner.column(c.name); err != nil {
				return relation{}, err
			}
			own[c.name] = inner.byName[c.name]
		}
		inner.byName = own
		if len(v.plain.where) > 0 || v.plain.grouped {
			return relation{}, exception(proto.ErrNotImplemented, "The model knows no view with a condition")
		}
		return inner, nil
	}
	totals, err := s.table(n.database, v.totals)
	if err != nil {
		return relation{}, err
	}
	sessions, err := s.table(n.database, v.sessions)
	if err != nil {
		return relation{}, err
	}
	return v.relation(totals, sessions)
}
