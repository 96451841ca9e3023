package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
)

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
