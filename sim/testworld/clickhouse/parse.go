package clickhouse

import (
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// name is the name of a table or view; an empty database is that of the connection.
type name struct{ database, table string }

// The statements that the model knows.
type (
	createDatabase struct {
		database    string
		ifNotExists bool
	}
	dropDatabase struct{ database string }
	createTable  struct {
		name                        name
		ifNotExists                 bool
		columns                     []columnDef
		checks                      []check
		engine, partition, key, ttl string
		version                     string // column
		settings                    [][2]string
		comment                     string
	}
	createView struct {
		name           name
		ifNotExists    bool // otherwise it replaces one that exists
		columns        []columnDef
		query, comment string
	}
	dropTable     struct{ name name }
	addConstraint struct {
		name  name
		check check
	}
	addColumns struct {
		name    name
		columns []newColumn
	}
	recomment struct {
		name            name
		column, comment string
	}
	optimize struct{ name name }
	noop     struct{}
	insert   struct {
		name    name
		columns []string
	}
	selection struct {
		items   []item
		from    name // empty: one row
		final   bool
		where   []cond
		group   []string
		having  []cond
		order   []string
		grouped bool
	}
)

type columnDef struct{ name, typ, comment, ttl string }

// newColumn is a column that an ALTER adds, behind another one or, if after is empty, behind all.
type newColumn struct {
	columnDef
	ifNotExists bool
	after       string
}

// check is a constraint.
type check struct {
	name string
	cond []cond
}

// item is a column of a result.
type item struct {
	expr  expr
	alias string
}

// expr is a column, a number, or a function of them.
type expr struct {
	fn   string // "", "number", "tostring", "count", "countif", "max"
	col  string
	num  uint64
	arg  *expr
	cond []cond
}

func (e *expr) aggregate() bool {
	return e.fn == "count" || e.fn == "countif" || e.fn == "max" || e.arg != nil && e.arg.aggregate()
}

// cond compares a column with one of the values: '=', '!', '<', '>'.
type cond struct {
	col    string
	op     byte
	values []string
}

func parse(src string) (any, error) {
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, toks: toks}
	st := p.statement()
	p.sign(';')
	if p.peek().kind != 'e' {
		p.fail()
	}
	return st, p.err
}

func (p *parser) statement() any {
	switch {
	case p.word("SELECT"):
		return p.selection()
	case p.word("INSERT", "INTO"):
		st := &insert{name: p.name()}
		if p.sign('(') {
			st.columns = list(p, p.ident)
			p.want(p.sign(')'))
		}
		p.want(p.word("VALUES") || p.word("FORMAT", "Native"))
		return st
	case p.word("CREATE", "DATABASE"):
		return &createDatabase{ifNotExists: p.word("IF", "NOT", "EXISTS"), database: p.ident()}
	case p.word("DROP", "DATABASE"):
		p.word("IF", "EXISTS")
		st := &dropDatabase{p.ident()}
		p.word("SYNC")
		return st
	case p.word("CREATE", "TABLE"):
		return p.createTable()
	case p.word("CREATE", "OR", "REPLACE", "VIEW"):
		return p.createView(false)
	case p.word("CREATE", "VIEW", "IF", "NOT", "EXISTS"):
		return p.createView(true)
	case p.word("DROP", "TABLE"), p.word("DROP", "VIEW"):
		st := &dropTable{p.name()}
		p.word("SYNC")
		return st
	case p.word("ALTER", "TABLE"):
		n := p.name()
		if p.word("ADD", "COLUMN") {
			return p.addColumns(n)
		}
		if p.word("COMMENT", "COLUMN") {
			return &recomment{name: n, column: p.ident(), comment: p.literalText()}
		}
		p.want(p.word("ADD"))
		return &addConstraint{name: n, check: p.constraint()}
	case p.word("OPTIMIZE", "TABLE"):
		st := &optimize{p.name()}
		p.want(p.word("FINAL"))
		return st
	case p.word("SYSTEM", "STOP", "MERGES"), p.word("SYSTEM", "START", "MERGES"):
		p.name()
		return &noop{}
	}
	p.fail()
	return nil
}

func (p *parser) constraint() check {
	p.want(p.word("CONSTRAINT"))
	c := check{name: p.ident()}
	p.want(p.word("CHECK"))
	c.cond = p.conds()
	return c
}

func (p *parser) columnDefs(checks *[]check) []columnDef {
	var out []columnDef
	p.want(p.sign('('))
	for p.err == nil {
		if t := p.peek(); t.kind == 'w' && strings.EqualFold(t.text, "CONSTRAINT") {
			*checks = append(*checks, p.constraint())
		} else {
			c := columnDef{name: p.ident()}
			c.typ = p.rawUntil(true, "COMMENT", "TTL", "DEFAULT")
			if p.word("DEFAULT") {
				p.rawUntil(true, "COMMENT", "TTL")
			}
			if p.word("COMMENT") {
				c.comment = p.literalText()
			}
			if p.word("TTL") {
				c.ttl = p.rawUntil(true)
			}
			out = append(out, c)
		}
		if !p.sign(',') {
			break
		}
	}
	p.want(p.sign(')'))
	return out
}

var tableClauses = []string{"PARTITION", "ORDER", "TTL", "SETTINGS", "COMMENT"}

func (p *parser) createTable() any {
	st := &createTable{ifNotExists: p.word("IF", "NOT", "EXISTS"), name: p.name()}
	st.columns = p.columnDefs(&st.checks)
	p.want(p.word("ENGINE") && p.sign('='))
	st.engine = p.rawUntil(false, tableClauses...)
	if args, ok := strings.CutPrefix(st.engine, "ReplacingMergeTree("); ok {
		st.version = strings.TrimSuffix(args, ")")
	}
	if p.word("PARTITION", "BY") {
		st.partition = p.rawUntil(false, tableClauses...)
	}
	if p.word("ORDER", "BY") {
		st.key = p.rawUntil(false, tableClauses...)
	}
	if p.word("TTL") {
		st.ttl = p.rawUntil(false, tableClauses...)
	}
	if p.word("SETTINGS") {
		st.settings = list(p, func() [2]string {
			k := p.ident()
			p.want(p.sign('='))
			return [2]string{k, p.next().text}
		})
	}
	if p.word("COMMENT") {
		st.comment = p.literalText()
	}
	return st
}

// addColumns reads what follows the first ADD COLUMN.
func (p *parser) addColumns(n name) any {
	st := &addColumns{name: n}
	for p.err == nil {
		c := newColumn{ifNotExists: p.word("IF", "NOT", "EXISTS")}
		c.name = p.ident()
		c.typ = p.rawUntil(true, "COMMENT", "AFTER")
		if p.word("COMMENT") {
			c.comment = p.literalText()
		}
		if p.word("AFTER") {
			c.after = p.ident()
		}
		st.columns = append(st.columns, c)
		if !p.sign(',') {
			break
		}
		p.want(p.word("ADD", "COLUMN"))
	}
	return st
}

func (p *parser) createView(ifNotExists bool) any {
	st := &createView{name: p.name(), ifNotExists: ifNotExists}
	var none []check
	st.columns = p.columnDefs(&none)
	p.want(p.word("AS"))
	st.query = p.rawUntil(false, "COMMENT")
	if p.word("COMMENT") {
		st.comment = p.literalText()
	}
	return st
}

func (p *parser) selection() any {
	st := &selection{}
	st.items = list(p, func() item {
		it := item{expr: p.expr()}
		if p.word("AS") {
			it.alias = p.ident()
		}
		return it
	})
	if p.word("FROM") {
		st.from = p.name()
		st.final = p.word("FINAL")
	}
	if p.word("WHERE") {
		st.where = p.conds()
	}
	if p.word("GROUP", "BY") {
		st.group = list(p, p.ident)
	}
	if p.word("HAVING") {
		st.having = p.conds()
	}
	if p.word("ORDER", "BY") {
		st.order = list(p, p.ident)
	}
	if p.word("SETTINGS") {
		list(p, func() string {
			p.ident()
			p.want(p.sign('='))
			return p.next().text
		})
	}
	st.grouped = len(st.group) > 0
	for i := range st.items {
		st.grouped = st.grouped || st.items[i].expr.aggregate()
	}
	return st
}

func (p *parser) expr() expr {
	t := p.next()
	switch {
	case t.kind == 'n':
		n, err := strconv.ParseUint(t.text, 10, 64)
		p.want(err == nil)
		return expr{fn: "number", num: n}
	case t.kind == 'q' || t.kind == 'w' && p.peek().kind != '(':
		return expr{col: t.text}
	case t.kind != 'w':
		p.fail()
		return expr{}
	}
	p.sign('(')
	e := expr{fn: strings.ToLower(t.text)}
	switch e.fn {
	case "count":
	case "tostring":
		arg := p.expr()
		e.arg = &arg
	case "max":
		e.col = p.ident()
	case "countif":
		e.cond = p.conds()
	default:
		p.fail()
	}
	p.want(p.sign(')'))
	return e
}

// conds reads conditions that all must hold.
func (p *parser) conds() []cond {
	var out []cond
	for p.err == nil {
		c := cond{col: p.ident()}
		if p.word("IN") {
			c.op = '='
			p.want(p.sign('('))
			c.values = list(p, p.value)
			p.want(p.sign(')'))
		} else {
			t := p.next()
			p.want(strings.IndexByte("=!<>", t.kind) >= 0)
			c.op = t.kind
			c.values = []string{p.value()}
		}
		out = append(out, c)
		if !p.word("AND") {
			break
		}
	}
	return out
}

func (p *parser) value() string {
	t := p.next()
	p.want(t.kind == 's' || t.kind == 'n')
	return t.text
}

func unknownTable(n name) error {
	return exception(proto.ErrUnknownTable, "Unknown table expression identifier '%s.%s'", n.database, n.table)
}
