package constraint

import (
	"fmt"
	"testing"
)

func TestParseLiteral(t *testing.T) {
	for text, want := range map[string]string{
		"NULL": "null", " null ": "null", "TRUE": "true", "false": "false", "7": "number 7", "-7.50": "number -15/2",
		"9223372036854775807L": "number 9223372036854775807", "'it'": "text it", "''": "text ",
		"DATE '1970-01-03'": "moment 3 2", "TIMESTAMP '1970-01-01 00:00:01Z'": "moment 4 1000000",
		"timestamp '1970-01-01T01:00:00.5+01:00'": "moment 4 500000",
		"": "", "now()": "", "current_timestamp": "", "1 + 1": "", "1e3": "",
		"CAST('a' AS STRING)": "", "'a' || 'b'": "",
		"'it''s'": "", `'a\n'`: "", `"x"`: "", "(1)": "", "- -1": "", "TIMESTAMP '2026-01-31 12:00:00'": "",
		"TRUE FALSE":  "",
		"DATE 'soon'": "", "`n`": "", "n": "", "-'a'": "", "-NULL": "", "+1": "",
	} {
		l, err := ParseLiteral(text)
		got := ""
		switch {
		case err != nil:
		case l.Null:
			got = "null"
		case l.Bool != nil:
			got = fmt.Sprint(*l.Bool)
		case l.Number != nil:
			got = "number " + l.Number.RatString()
		case l.Text != nil:
			got = "text " + *l.Text
		case l.Moment != nil:
			got = fmt.Sprintf("moment %d %d", l.Kind, *l.Moment)
		}
		if got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
}
