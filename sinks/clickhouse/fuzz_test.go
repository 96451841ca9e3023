package clickhouse

import (
	"strings"
	"testing"
)

// unquote reads one quoted text or name from the start of s, as ClickHouse's lexer does: a backslash takes the next
// byte, a doubled quote stands for one quote.
func unquote(s string) (text, rest string, ok bool) {
	q := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == q && i+1 < len(s) && s[i+1] == q:
			i++
			b.WriteByte(q)
		case s[i] == q:
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// FuzzQuote: any text that is quoted is read back completely, with nothing left over.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "a", `it's`, "`", `\`, `\'; DROP TABLE x; --`, "\x00\n", "'';", "é\xff", "TTL"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, q := range []string{quoteText(s), quoteIdent(s)} {
			if got, rest, ok := unquote(q); !ok || got != s || rest != "" {
				t.Fatalf("%q is quoted as %s, which reads %q and leaves %q", s, q, got, rest)
			}
			if hasTTL("SELECT " + q) {
				t.Fatalf("%s is taken for a TTL", q)
			}
		}
	})
}

// FuzzTTL: hasTTL finds TTL where it is a keyword, and only there. The oracle goes through the statement byte by byte.
func FuzzTTL(f *testing.F) {
	for _, s := range []string{
		"CREATE TABLE t (`a` String TTL d + toIntervalDay(1)) ENGINE = MergeTree",
		"CREATE TABLE t (`TTL` String COMMENT 'TTL') ENGINE = MergeTree",
		"MergeTree ORDER BY a TTL d", `COMMENT 'it\'s TTL' TTL`, "`a``TTL`", `"TTL" TTL`, "'TTL",
		"TTLs xTTL _TTL TTL_", "'a\nTTL'", `'\\' TTL`, "éTTL",
	} {
		f.Add(s)
	}
	word := func(b byte) bool {
		return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, before := false, byte(' ')
		for rest := s; rest != ""; {
			if strings.IndexByte("'`\"", rest[0]) >= 0 {
				_, next, ok := unquote(rest)
				if !ok || rest[0] == '"' && strings.HasPrefix(next, `"`) {
					return // not a statement that a server would show
				}
				rest, before = next, '\''
				continue
			}
			if strings.HasPrefix(rest, "TTL") && !word(before) && (len(rest) == 3 || !word(rest[3])) {
				want = true
			}
			before, rest = rest[0], rest[1:]
		}
		if strings.ContainsRune(s, '"') && strings.Contains(s, `""`) {
			return // a name in double quotes that contains one: a server shows names in backquotes
		}
		if got := hasTTL(s); got != want {
			t.Fatalf("%q: %v", s, got)
		}
	})
}
