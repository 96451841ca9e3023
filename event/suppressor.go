package event

import (
	"bytes"
	"strconv"
)

// suppressor judges records by a list of suppressed readers that has at least one listing.
type suppressor struct {
	list   *Suppression
	lister *Lister
	digits []byte
	name   []byte
}

// Suppress makes the decoder leave out the records of the readers on a list; nil, or a list of nobody, leaves out none.
func (d *Decoder) Suppress(list *Suppression) {
	d.withheld = false
	if list == nil || list.Len() == 0 {
		d.suppress = nil
		return
	}
	if d.suppress == nil || d.suppress.list.Salt != list.Salt {
		d.suppress = &suppressor{lister: NewLister(list.Salt)}
	}
	d.suppress.list = list
}

// Withheld says, of a record that Decode has refused last, that its letter must show nothing of it: there is a list of
// suppressed readers, and the record could not be decoded far enough to tell that it is of none of them.
func (d *Decoder) Withheld() bool { return d.withheld }

// AsksReaders says whether records are left out for the sake of their readers: then nothing may be shown of a record
// that Decode has not judged.
func (d *Decoder) AsksReaders() bool {
	return d.suppress != nil || d.Rules != nil && d.Rules.Consent != nil
}

// lists says whether an id of a record is on the list.
func (s *suppressor) lists(kind SuppressKind, id string) bool {
	if id == "" || len(id) > MaxSuppressID {
		return false
	}
	fast := s.lister.fast(kind, id)
	found := s.list.withFast(fast)
	if len(found) == 0 || found[0].Fast != fast {
		return false
	}
	l := Listing{Fast: fast, Hash: s.lister.hash()}
	return s.list.Has(l.Key())
}

// suppressed judges a record that is JSON by its ids as they came, 0 if it is of nobody on the list. It also sets
// withheld.
func (d *Decoder) suppressed() SuppressKind {
	const ids = 1<<fieldUserID | 1<<fieldSessionID
	ev, s := d.ev, d.suppress
	if d.withheld = d.faults&ids != 0; d.withheld {
		if d.faults&(1<<fieldUserID) != 0 && s.listsRaw(SuppressUser, d.raw(fieldUserID)) {
			return SuppressUser
		}
		if d.faults&(1<<fieldSessionID) != 0 && s.listsRaw(SuppressSession, d.raw(fieldSessionID)) {
			return SuppressSession
		}
	}
	if d.faults&(1<<fieldUserID) == 0 && ev.UserID != 0 {
		id := ev.UserKey
		if id == "" {
			s.digits = strconv.AppendUint(s.digits[:0], ev.UserID, 10)
			id = alias(s.digits)
		}
		if s.lists(SuppressUser, id) {
			return SuppressUser
		}
	}
	if d.faults&(1<<fieldSessionID) == 0 && s.lists(SuppressSession, ev.SessionID) {
		return SuppressSession
	}
	return 0
}

func (d *Decoder) raw(f field) []byte { return d.in[d.spans[f].from:d.spans[f].to] }

// listsRaw says whether the value of an id, which is valid JSON and need not be of the right type, is on the list. A
// number counts as its digits if it has no fraction, in whatever form it is written: 27.0 is 27.
func (s *suppressor) listsRaw(kind SuppressKind, raw []byte) bool {
	plain, ok := plainValue(raw)
	if !ok || plain == "" {
		return false
	}
	if raw[0] != '"' && isNumber(plain) {
		if n, whole := wholeNumber(plain); whole {
			s.digits = strconv.AppendUint(s.digits[:0], n, 10)
			plain = alias(s.digits)
		}
	}
	if kind == SuppressUser && plain == "0" {
		return false
	}
	return s.lists(kind, plain)
}

// wholeNumber returns a number of any form that has no fraction; false for others, and for what does not fit.
func wholeNumber(token string) (n uint64, ok bool) {
	if n, ok = wholePart(token); !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(token, 64)
	return n, err == nil && f == float64(n)
}

// search judges a record that is not decoded, because it is too long or no JSON: by what stands as a value behind the
// name of an id, anywhere in its bytes, whole or not. It is 0 if nothing there is on the list. It also sets withheld,
// unless it has read both ids, and no id was in doubt.
func (d *Decoder) search(value []byte) SuppressKind {
	s := d.suppress
	read := [...]bool{SuppressUser: false, SuppressSession: false}
	doubt := false
	d.withheld = true
	in := scanner{in: value}
	for i := bytes.IndexByte(value, '"'); i >= 0; {
		next := bytes.IndexByte(value[i+1:], '"') + i + 1
		if kind, at := s.idName(&in, i); kind != 0 {
			raw := idValue(&in, at)
			switch {
			case raw == nil:
				doubt = true
			case s.listsRaw(kind, raw):
				return kind
			default:
				read[kind] = true
			}
		}
		if next == i {
			break
		}
		i = next
	}
	d.withheld = doubt || !read[SuppressUser] || !read[SuppressSession]
	return 0
}

// maxIDName bounds the name of an id as it is written: ten characters, each of them an escape.
const maxIDName = 6 * len("session_id")

// idName says whether a quote begins the name of an id, and where its value begins.
func (s *suppressor) idName(in *scanner, quote int) (kind SuppressKind, value int) {
	i := quote + 1
	end := -1
	for j := i; j < len(in.in) && j <= i+maxIDName; j++ {
		if in.in[j] == '\\' {
			j++
		} else if in.in[j] == '"' {
			end = j
			break
		}
	}
	if end < 0 {
		return 0, 0
	}
	raw := in.in[i:end]
	if bytes.IndexByte(raw, '\\') >= 0 {
		if whole, _ := in.text(i); whole != end { // it has escapes that are none
			return 0, 0
		}
		s.name = append(s.name[:0], raw...)
		raw = s.name[:unescape(s.name, raw)]
	}
	switch string(raw) {
	case fields[fieldUserID].name:
		kind = SuppressUser
	case fields[fieldSessionID].name:
		kind = SuppressSession
	default:
		return 0, 0
	}
	if i = in.space(end + 1); i >= len(in.in) || in.in[i] != ':' {
		return 0, 0
	}
	return kind, in.space(i + 1)
}

// idValue returns the text, number, null or truth value at i, nil if there is none that is whole.
func idValue(in *scanner, i int) []byte {
	if i >= len(in.in) {
		return nil
	}
	// What is longer than any id is none. It is not read to its end, since another name may stand in each part of it.
	cut := scanner{in: in.in[:min(len(in.in), i+6*MaxSuppressID+2)]}
	end := -1
	switch c := cut.in[i]; {
	case c == '"':
		if end, _ = cut.text(i + 1); end >= 0 {
			end++
		}
	case c == '-' || digit(c):
		if end, _ = cut.number(i); end == len(cut.in) { // it may go on where the record was cut
			end = -1
		}
	case c == 'n' || c == 't' || c == 'f':
		end = cut.value(i, 1)
	}
	if end < 0 {
		return nil
	}
	return cut.in[i:end]
}
