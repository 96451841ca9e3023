package event

import (
	"net/netip"
	"strings"
)

// excluder judges records by exclude rules.
type excluder struct {
	rules []excludeRule
	// consent is the rule by which a record is not left out, nil if there is none; unasked says that it is not either
	// without a value.
	consent *excludeRule
	unasked bool
	// heads are the fields of records that rules look at, by name; the values number them.
	heads map[string]int
	// watched has bit f if field f of the schema is among heads.
	watched uint32
	// raw are the values of the heads in the present record, as they stand in it; nil where it has none.
	raw [][]byte
}

// excludeRule is one rule. Its field is the field of the record of that name or else, if the name has a dot, what the
// rest behind the dot names within the field before it.
type excludeRule struct {
	whole    int
	outer    int
	rest     string // "" for a name without a dot
	equal    map[string]bool
	suffix   []string
	hosts    []string // in lower case
	networks []netip.Prefix
}

// newExcluder returns nil if there is no rule. A network that is none, which Check refuses, holds nothing.
func newExcluder(rules []Exclude, consent *Consent) *excluder {
	if len(rules) == 0 && consent == nil {
		return nil
	}
	x := &excluder{heads: map[string]int{}}
	if consent != nil {
		r := x.rule(consent.Field, consent.Equal)
		x.consent, x.unasked = &r, consent.Missing == CountMissing
	}
	for i := range rules {
		r := &rules[i]
		c := x.rule(r.Field, r.Equal)
		c.suffix = r.Suffix
		for _, h := range r.Hosts {
			c.hosts = append(c.hosts, strings.ToLower(strings.Trim(h, ".")))
		}
		for _, n := range r.Networks {
			if p, err := netip.ParsePrefix(n); err == nil {
				c.networks = append(c.networks, p.Masked())
			}
		}
		x.rules = append(x.rules, c)
	}
	x.raw = make([][]byte, len(x.heads))
	return x
}

// rule returns a rule about a field that knows the values that it may equal.
func (x *excluder) rule(field string, equal []string) excludeRule {
	c := excludeRule{equal: map[string]bool{}}
	c.whole = x.head(field)
	if name, rest, ok := strings.Cut(field, "."); ok {
		c.outer, c.rest = x.head(name), rest
	}
	for _, v := range equal {
		c.equal[v] = true
	}
	return c
}

func (x *excluder) head(name string) int {
	if n, ok := x.heads[name]; ok {
		return n
	}
	n := len(x.heads)
	x.heads[name] = n
	if f := fieldByName(name); f != fieldExtra {
		x.watched |= 1 << f
	}
	return n
}

func (x *excluder) reset() { clear(x.raw) }

// note keeps the value of a field of the record, if a rule looks at it.
func (x *excluder) note(name string, raw []byte) {
	if n, ok := x.heads[name]; ok {
		x.raw[n] = raw
	}
}

// match returns the first rule that the noted values fit, -1 if there is none.
func (x *excluder) match() int {
	for i := range x.rules {
		r := &x.rules[i]
		if v, ok := plainValue(x.value(r)); ok && r.fits(v) {
			return i
		}
	}
	return -1
}

// value returns the noted value that a rule looks at, nil if there is none.
func (x *excluder) value(r *excludeRule) []byte {
	raw := x.raw[r.whole]
	if raw == nil && r.rest != "" {
		raw = memberOf(x.raw[r.outer], r.rest)
	}
	return raw
}

// consents says whether the reader of the record agrees to being counted, or need not. null and "" are no value; an
// object and a list are one that says no.
func (x *excluder) consents() bool {
	if x.consent == nil {
		return true
	}
	raw := x.value(x.consent)
	v, plain := plainValue(raw)
	if len(raw) == 0 || raw[0] == 'n' || plain && v == "" {
		return x.unasked
	}
	return plain && x.consent.equal[v]
}

func (r *excludeRule) fits(v string) bool {
	if r.equal[v] {
		return true
	}
	for _, s := range r.suffix {
		if strings.HasSuffix(v, s) {
			return true
		}
	}
	if len(r.hosts) > 0 {
		host := hostOf(v)
		for _, h := range r.hosts {
			if rest, ok := strings.CutSuffix(host, h); ok && (rest == "" || rest[len(rest)-1] == '.') {
				return true
			}
		}
	}
	if len(r.networks) > 0 {
		if a, ok := addressOf(v); ok {
			for _, n := range r.networks {
				if n.Contains(a) {
					return true
				}
			}
		}
	}
	return false
}

// hostOf returns the host of a URL or of a host with or without a port, in lower case.
func hostOf(v string) string {
	if _, rest, ok := strings.Cut(v, "//"); ok {
		v = rest
	}
	if i := strings.IndexAny(v, "/?#\\"); i >= 0 {
		v = v[:i]
	}
	if i := strings.LastIndexByte(v, '@'); i >= 0 {
		v = v[i+1:]
	}
	if i := strings.LastIndexByte(v, ':'); i >= 0 && !strings.HasSuffix(v, "]") {
		v = v[:i]
	}
	return strings.TrimSuffix(strings.ToLower(v), ".")
}

func addressOf(v string) (netip.Addr, bool) {
	v = strings.TrimSpace(v)
	a, err := netip.ParseAddr(v)
	if err != nil {
		p, err := netip.ParseAddrPort(v)
		if err != nil {
			return a, false
		}
		a = p.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// memberOf returns the value at path within raw, which is valid JSON; nil if there is none. Of a name that stands twice
// the last counts, and a name with a dot counts before a path.
func memberOf(raw []byte, path string) (value []byte) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	s := scanner{in: raw}
	var within []byte
	head, rest, nested := strings.Cut(path, ".")
	for i := s.space(1); i < len(raw) && raw[i] == '"'; {
		end, next, escaped := s.key(i)
		if next < 0 {
			return nil
		}
		name := plainText(raw[i+1:end], escaped)
		if i = s.value(next, 1); i < 0 {
			return nil
		}
		switch {
		case name == path:
			value = raw[next:i:i]
		case nested && name == head:
			within = raw[next:i:i]
		}
		if i = s.space(i); i < len(raw) && raw[i] == ',' {
			i = s.space(i + 1)
		}
	}
	if value == nil && within != nil {
		value = memberOf(within, rest)
	}
	return value
}

// plainText returns the text between two quotes with its escapes resolved.
func plainText(raw []byte, escaped bool) string {
	if !escaped {
		return alias(raw)
	}
	p := make([]byte, len(raw))
	return alias(p[:unescape(p, raw)])
}

// plainValue returns a text, or a number, true or false as it stands; false for null, objects, lists and nil.
func plainValue(raw []byte) (string, bool) {
	if len(raw) == 0 {
		return "", false
	}
	switch raw[0] {
	case '{', '[', 'n':
		return "", false
	case '"':
		inner := raw[1 : len(raw)-1]
		return plainText(inner, strings.IndexByte(alias(inner), '\\') >= 0), true
	}
	return alias(raw), true
}
