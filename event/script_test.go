package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestDecodeScripts runs testdata/decode. Each case is
//
//	decode [kafka=<Unix milliseconds>]
//	<record>
//	----
//	<result>
//
// and is judged by the rules of v0.1.0, or by those that stand before it in the file, as JSON or as "default":
//
//	rules
//	<Rules>
//	----
//	<ok, or what Check says>
//
// In a record, <valid> stands for the five required fields, <xNN> for the byte NN, <a*N> for N times the byte a, and
// the fields event_id, session_id, user_id, event_type and timestamp in angle brackets for one required field each. The
// result is the reason and the detail, or the fields that are set beyond those of <valid>; and then what was counted.
func TestDecodeScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/decode", func(t *testing.T, path string) {
		var d Decoder
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			switch td.Cmd {
			case "rules":
				rules := DefaultRules()
				if in := strings.TrimSpace(td.Input); in != "default" {
					rules = Rules{}
					if err := json.Unmarshal([]byte(in), &rules); err != nil {
						t.Fatal(err)
					}
				}
				if err := rules.Check(); err != nil {
					return err.Error()
				}
				d = Decoder{Rules: &rules}
				return "ok"
			case "decode":
			default:
				t.Fatalf("unknown command %s", td.Cmd)
			}
			kafka := int64(1_795_357_100_000)
			td.MaybeScanArgs(t, "kafka", &kafka)
			var ev Event
			defer d.Reset()
			reason, detail := d.Decode([]byte(fillIn(t, td.Input)), kafka, &ev)
			if reason != ReasonNone {
				return fmt.Sprintf("%s\n%s", reason, detail) + showCounts(&d.Counts)
			}
			return show(&ev) + showCounts(&d.Counts)
		})
	})
}

func showCounts(c *Counts) (out string) {
	for i, n := range c.Excluded {
		if n != 0 {
			out += fmt.Sprintf("\nexcluded by %d: %d", i, n)
		}
	}
	if c.Skipped != 0 {
		out += fmt.Sprintf("\nskipped: %d", c.Skipped)
	}
	for k, n := range c.Zeroed {
		if n != 0 {
			out += fmt.Sprintf("\ncounted as 0: %s", MetricNames()[k])
		}
	}
	return out
}

var required = []string{
	`"event_id":"db3d32d7-986f-463a-b7db-92734198dd82"`, `"session_id":"s1"`, `"user_id":27`, `"event_type":"search"`,
	`"timestamp":1795357069`,
}

func fillIn(t testing.TB, in string) string {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(in, "<")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		var what string
		if what, in, ok = strings.Cut(rest, ">"); !ok {
			t.Fatalf("no > in %q", rest)
		}
		switch c, n, repeat := strings.Cut(what, "*"); {
		case what == "valid":
			out.WriteString(strings.Join(required, ","))
		case repeat:
			times, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(strings.Repeat(c, times))
		case what[0] == 'x':
			b, err := strconv.ParseUint(what[1:], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			out.WriteByte(byte(b))
		default:
			found := false
			for _, r := range required {
				if strings.HasPrefix(r, `"`+what+`"`) {
					out.WriteString(r)
					found = true
				}
			}
			if !found {
				t.Fatalf("unknown <%s>", what)
			}
		}
	}
}

// show lists the fields of ev that differ from those of <valid>.
func show(ev *Event) string {
	valid := Event{SessionID: "s1", UserID: 27, Type: Search, Timestamp: 1795357069}
	valid.ID, _ = ParseID("db3d32d7-986f-463a-b7db-92734198dd82")
	out := "ok"
	v, w := reflect.ValueOf(*ev), reflect.ValueOf(valid)
	for i := range v.NumField() {
		x := v.Field(i).Interface()
		if x == w.Field(i).Interface() {
			continue
		}
		name := v.Type().Field(i).Name
		switch s, isText := x.(string); {
		case isText && name != "EngagementMetrics" && name != "Metadata" && name != "Extra":
			q, _ := json.Marshal(s)
			out += fmt.Sprintf("\n%s: %s", name, q)
		default:
			out += fmt.Sprintf("\n%s: %v", name, x)
		}
	}
	return out
}
