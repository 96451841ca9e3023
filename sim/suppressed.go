package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Held is what held where a record was decided.
type Held struct {
	Rules      *PrivateRules // nil: FirstRules
	Suppressed Readers
}

// Reader is one who can be on the list of suppressed readers.
type Reader struct {
	Session bool // the ID is a session_id, and not a user_id
	ID      string
}

// String names the reader in a history.
func (r Reader) String() string {
	if r.Session {
		return fmt.Sprintf("session %q", r.ID)
	}
	return fmt.Sprintf("user %q", r.ID)
}

// Readers are those on a list.
type Readers map[Reader]bool

// Suppressed is a record that is left out for the sake of its reader, and whose ids are on the list: of both, either
// may be named as the reason.
type Suppressed struct {
	Position
	User, Session bool
	Value         []byte
}

// of says which ids of a record are on the list.
func (l Readers) of(value []byte) (who Suppressed) {
	if len(l) == 0 {
		return who
	}
	for _, r := range ReadersOf(value) {
		if l[r] {
			who.User, who.Session = who.User || !r.Session, who.Session || r.Session
		}
	}
	return who
}

// ReadersOf returns who is named by a record that may be anything: by its two ids if it is JSON, and by what stands
// behind their names, wherever that is, if it is not.
func ReadersOf(value []byte) (all []Reader) {
	add := func(session bool, v any) {
		id, isText := v.(string)
		if n, ok := v.(json.Number); ok {
			id = digits(string(n))
		} else if b, ok := v.(bool); ok {
			id = strconv.FormatBool(b)
		} else if !isText {
			return
		}
		if id != "" && len(id) <= 255 && (session || id != "0") {
			all = append(all, Reader{session, id})
		}
	}
	if m, ok := whole(value); ok {
		add(false, m["user_id"])
		add(true, m["session_id"])
		return all
	}
	for i, c := range value {
		if c != '"' {
			continue
		}
		found := namedID.FindSubmatch(value[i:])
		if found == nil {
			continue
		}
		var name string
		if json.Unmarshal(found[1], &name) != nil || name != "user_id" && name != "session_id" {
			continue
		}
		dec := json.NewDecoder(bytes.NewReader(found[2]))
		dec.UseNumber()
		var v any
		if dec.Decode(&v) != nil || found[2][0] != '"' && i+len(found[0]) == len(value) {
			continue // nobody knows how it goes on
		}
		add(name == "session_id", v)
	}
	return all
}

// namedID is a name and a value behind it.
var namedID = regexp.MustCompile(`^("(?:[^"\\]|\\.){1,60}")[ \t\r\n]*:[ \t\r\n]*` +
	`("(?:[^"\\]|\\.)*"|-?[0-9][-+.0-9eE]*|true|false)`)

// whole decodes a record that is one JSON object.
func whole(value []byte) (m map[string]any, ok bool) {
	if len(value) > 1<<20 || !utf8.Valid(value) || !json.Valid(value) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	err := dec.Decode(&m)
	return m, err == nil && m != nil
}

// digits returns the decimal digits of a number that has no fraction and no sign, in whatever form it is written, and
// any other as it is.
func digits(number string) string {
	if r, ok := new(big.Rat).SetString(number); ok && r.IsInt() && r.Sign() >= 0 && number[0] != '-' {
		return r.Num().String()
	}
	return number
}

// doubtful makes a record that is refused, and names its reader in a way that takes some reading.
func doubtful(r *rand.Rand, s *session, now int64, sharded bool) (value []byte, reason string) {
	c := *s
	c.viewed = append([]string(nil), s.viewed...)
	fields := c.event(r, now, false)
	user := get(fields, "user_id")
	switch n := r.IntN(100); {
	case n == 0:
		set(fields, "metadata", `{"padding": "`+strings.Repeat("x", oversize)+`"}`)
		return object(fields), "too_large"
	case n < 25 && sharded:
		return object(fields), "no_key"
	case n < 40 && user != "" && digits(user) == user && user != "0" && plainNumber.MatchString(user):
		set(fields, "user_id", user+pick(r, []string{".0", "e0", "0e-1", ".00E+0"}))
		return object(fields), "wrong_type"
	case n < 55: // an escaped name, or an escape within the id
		v := bytes.Replace(object(fields), []byte(`"user_id"`), []byte(`"\u0075ser_id"`), 1)
		v = bytes.Replace(v, []byte(`"session_id": "`+s.id[:1]), fmt.Appendf(nil, `"session_id": "\u%04x`, s.id[0]), 1)
		return append(v, '}'), "malformed"
	case n < 70 && user != "": // twice
		return append(object(append([]field{{"user_id", `"nobody-else"`}}, fields...)), '}'), "malformed"
	case n < 85: // cut off behind its ids
		v := object(fields)
		return v[:len(v)-2], "malformed"
	}
	return append(object(fields), " x"...), "malformed"
}
