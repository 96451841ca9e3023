package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
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
