package clickhouse

import (
	"encoding/binary"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ClickHouse/ch-go/proto"
)

// view is a view and what the model has understood about its query.
type view struct {
	def *createView
	// plain is a query over one stored table. If it is nil, the view is a rollup.
	plain *selection
	// rollup is the total's name, from the query's WHERE; the dimensions are the columns between date and
	// total_sessions.
	rollup string
	dims   []string
	// sums are the measures of the stored totals, sessions first, and shown says which of them, or which of them per
	// session, stands in a column of the view.
	sums  []string
	shown map[string]shownSum
	// totals and sessions are the stored tables of a rollup.
	totals, sessions name
	// nobody says that 0 is no user, but a visitor of its own in each session.
	nobody bool
}

const (
	allUsers   = "uniqExactIf(t_user_id, t_is_session)"
	knownUsers = "uniqExactIf(t_user_id, t_is_session AND t_user_id != 0)"
	unknown    = "countIf(t_is_session AND t_user_id = 0)"
)

// shownSum is a measure by its place in view.sums.
type shownSum struct {
	of         int
	perSession bool
}

var sumExpr = regexp.MustCompile(`sum\(t_(\w+)\)( / sum\(t_sessions\))? AS (\w+)`)

// understand reads the view's query. The model does not execute any SQL: a rollup's query must have the parts that make
// up the shape that it knows, and is refused otherwise.
func understand(def *createView) (*view, error) {
	v := &view{def: def}
	toks, err := lex(def.query)
	if err != nil {
		return nil, err
	}
	p := &parser{src: def.query, toks: toks}
	if p.word("SELECT") {
		if st, ok := p.selection().(*selection); ok && p.err == nil && p.peek().kind == 'e' {
			v.plain = st
			return v, nil
		}
	}
	for _, part := range []string{
		"sum(t_sessions) AS total_sessions", " AS total_users",
		"sum(t_duration_sec) / sum(t_sessions) AS avg_session_duration_sec",
		"sum(t_events) / sum(t_sessions) AS avg_events_per_session",
		"sum(t_article_views) AS total_article_views", "sum(t_video_plays) AS total_video_plays",
		"sum(t_newsletter_signups) AS total_newsletter_signups", "sum(t_ad_clicks) AS total_ad_clicks",
		"toDate(s.session_start, 'UTC') AS date", "UNION ALL", "GROUP BY date", "HAVING sum(t_sessions) > 0",
		"do_not_merge_across_partitions_select_final = 1", "s.user_id AS t_user_id",
	} {
		if !strings.Contains(def.query, part) {
			return nil, exception(proto.ErrNotImplemented, "The model does not understand the query of view %s: no %s",
				def.name.table, part)
		}
	}
	switch {
	case strings.Contains(def.query, knownUsers+" AS total_users") &&
		strings.Contains(def.query, knownUsers+" + "+unknown+" AS total_visitors"):
		v.nobody = true
	case strings.Contains(def.query, allUsers+" AS total_users"):
	default:
		return nil, exception(proto.ErrNotImplemented, "The model does not understand the users of view %s",
			def.name.table)
	}
	v.shown = map[string]shownSum{}
	for _, m := range sumExpr.FindAllStringSubmatch(def.query, -1) {
		at := slices.Index(v.sums, m[1])
		if at < 0 {
			at = len(v.sums)
			v.sums = append(v.sums, m[1])
		}
		v.shown[m[3]] = shownSum{at, m[2] != ""}
	}
	for _, c := range def.columns {
		if c.name == "total_sessions" {
			break
		}
		if c.name != "date" {
			v.dims = append(v.dims, c.name)
			if as := fmt.Sprintf("dim%d AS %s,", len(v.dims), c.name); !strings.Contains(def.query, as) {
				return nil, exception(proto.ErrNotImplemented,
					"The model does not understand the query of view %s: no %s", def.name.table, as)
			}
		}
	}
	// The two FROMs of stored tables, each with FINAL.
	var from []name
	p.i, p.err = 0, nil
	for p.i = 0; p.peek().kind != 'e'; {
		switch {
		case p.word("FROM") && p.peek().kind == 'q':
			n := p.name()
			if p.word("AS") {
				p.ident()
			}
			if !p.word("FINAL") {
				return nil, exception(proto.ErrNotImplemented,
					"The model does not understand view %s: %s without FINAL", def.name.table, n.table)
			}
			from = append(from, n)
		case p.word("WHERE"):
			if conds := p.conds(); p.err == nil && len(conds) == 1 && conds[0].col == "rollup" {
				v.rollup = conds[0].values[0]
			}
		default:
			p.next()
		}
	}
	if len(from) != 2 || v.rollup == "" {
		return nil, exception(proto.ErrNotImplemented, "The model does not understand the query of view %s",
			def.name.table)
	}
	v.totals, v.sessions = from[0], from[1]
	return v, nil
}

// group is one row of a rollup's view.
type group struct {
	date  uint64
	dims  []string
	sums  []int64 // of view.sums
	users map[uint64]bool
	// unknown is the number of sessions whose user is 0, in a view that takes 0 for nobody.
	unknown uint64
}

// groups computes the view's rows from the two stored tables, in no order.
func (v *view) groups(totals, sessions *table) ([]*group, error) {
	at := map[string]*group{}
	var all []*group
	var key []byte
	find := func(date uint64, dims []string) *group {
		key = binary.LittleEndian.AppendUint64(key[:0], date)
		for _, d := range dims {
			key = append(binary.AppendUvarint(key, uint64(len(d))), d...)
		}
		g := at[string(key)]
		if g == nil {
			g = &group{date: date, dims: slices.Clone(dims), users: map[uint64]bool{},
				sums: make([]int64, len(v.sums))}
			at[string(key)] = g
			all = append(all, g)
		}
		return g
	}
	cols := func(t *table, names ...string) ([]*vec, error) {
		r := relation{cols: t.cols, byName: t.byName}
		var out []*vec
		for _, n := range names {
			c, err := r.column(n)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
		return out, nil
	}
	dims := make([]string, len(v.dims))

	tc, err := cols(totals, append([]string{"rollup", "date", "dim1", "dim2", "dim3"}, v.sums...)...)
	if err != nil {
		return nil, err
	}
	for i, shown := range totals.final {
		if !shown || tc[0].s[i] != v.rollup {
			continue
		}
		for k := range dims {
			dims[k] = tc[2+k].s[i]
		}
		g := find(tc[1].n[i], dims)
		for k := range g.sums {
			g.sums[k] += int64(tc[5+k].n[i])
		}
	}
	sc, err := cols(sessions, append([]string{"session_start", "user_id"}, v.dims...)...)
	if err != nil {
		return nil, err
	}
	for i, shown := range sessions.final {
		if !shown {
			continue
		}
		for k := range dims {
			dims[k] = shorten(sc[2+k].s[i])
		}
		if g := find(sc[0].n[i]/86_400, dims); v.nobody && sc[1].n[i] == 0 {
			g.unknown++
		} else {
			g.users[sc[1].n[i]] = true
		}
	}
	return slices.DeleteFunc(all, func(g *group) bool { return g.sums[0] <= 0 }), nil
}

// shorten returns the longest prefix of at most 256 bytes that ends between two characters.
func shorten(s string) string {
	if len(s) <= 256 {
		return s
	}
	n := 256
	for n > 253 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// relation returns the rows of a rollup's view.
func (v *view) relation(totals, sessions *table) (relation, error) {
	gs, err := v.groups(totals, sessions)
	if err != nil {
		return relation{}, err
	}
	var names []string
	var cols []vec
	for _, c := range v.def.columns {
		col, err := newVec(c.typ)
		if err != nil {
			return relation{}, err
		}
		dim := slices.Index(v.dims, c.name)
		for _, g := range gs {
			if dim >= 0 {
				col.s = append(col.s, g.dims[dim])
			} else {
				n, err := v.value(g, c.name)
				if err != nil {
					return relation{}, err
				}
				col.n = append(col.n, n)
			}
		}
		names, cols = append(names, c.name), append(cols, col)
	}
	return newRelation(names, cols), nil
}

func (v *view) value(g *group, column string) (uint64, error) {
	switch column {
	case "date":
		return g.date, nil
	case "total_users":
		return uint64(len(g.users)), nil
	case "total_visitors":
		return uint64(len(g.users)) + g.unknown, nil
	}
	m, ok := v.shown[column]
	switch {
	case !ok:
		return 0, exception(proto.ErrNotImplemented, "The model does not know the column %s", column)
	case m.perSession:
		return math.Float64bits(float64(g.sums[m.of]) / float64(g.sums[0])), nil
	}
	return uint64(g.sums[m.of]), nil
}
