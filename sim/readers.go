package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
)

// login says what a session's user_id is from an event on.
type login struct {
	from  int    // the number of the event
	value string // JSON; "" for no field
}

// userValue is the user_id of the event that is made now.
func (s *session) userValue() string {
	value := ""
	for _, l := range s.logins {
		if l.from <= s.events {
			value = l.value
		}
	}
	return value
}

// readers makes a session one whose user is not simply a number.
func (s *session) readers(r *rand.Rand) {
	nobody := login{value: pick(r, []string{"null", "", `""`, "0"})}
	number := strconv.FormatUint(s.user, 10)
	text := quote(fmt.Sprintf("reader-%d@example.com", s.user))
	later := 1 + r.IntN(6)
	switch r.IntN(6) {
	case 0, 1:
		s.logins = []login{nobody}
	case 2:
		s.logins = []login{{value: text}}
	case 3: // a number in a text is that number
		s.logins = []login{{value: `"` + number + `"`}}
	case 4: // a login after some pages
		s.logins = []login{nobody, {later, pick(r, []string{number, text})}}
	case 5: // two readers at one device
		s.logins = []login{{value: number}, {later, text}}
	}
}

// lie says how the keys of a session lie.
type lie struct {
	kind lieKind
	from int // the number of the event from which on the key is the user's id
}

type lieKind uint8

const (
	honest  lieKind = iota
	byEvent         // each record has a key of its own, as if it were the event's id
	byLogin         // the key becomes the user's id
)

func newLie(r *rand.Rand) lie {
	if r.IntN(2) == 0 {
		return lie{kind: byEvent}
	}
	return lie{kind: byLogin, from: 1 + r.IntN(4)}
}

// key is the key of the session's record that is made now.
func (l lie) key(r *rand.Rand, s *session) []byte {
	switch {
	case l.kind == byEvent:
		return []byte(uuid(r))
	case s.events >= l.from:
		return strconv.AppendUint(nil, s.user, 10)
	}
	return []byte(s.id)
}

// ulid is an event id that is no UUID.
func ulid(r *rand.Rand) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	b := []byte("01")
	for len(b) < 26 {
		b = append(b, digits[r.IntN(len(digits))])
	}
	return string(b)
}

// excludedRecord is an event of a bot, whole or with a fault for which it would be a dead letter.
func excludedRecord(r *rand.Rand, s *session, now int64) []byte {
	c := *s
	c.viewed = append([]string(nil), s.viewed...)
	fields := append(c.event(r, now, false), field{BotField, pick(r, []string{"true", `"true"`})})
	if r.IntN(2) == 0 {
		set(fields, pick(r, []string{"timestamp", "event_type", "brand"}), "[]")
	}
	return object(fields)
}
