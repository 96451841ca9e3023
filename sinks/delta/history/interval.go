package history

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"deckle/sinks/delta/deltalog"
)

const (
	// PropertyRetention is the table's property that says how long the objects of removed files stay.
	PropertyRetention = "delta.deletedFileRetentionDuration"
	// DefaultRetention is its value where it is not set, by the protocol.
	DefaultRetention = 7 * 24 * time.Hour
)

// DeletedFileRetention is how long a table wants the objects of removed files to stay. It is an error if the property
// is set to what cannot be understood.
func DeletedFileRetention(m *deltalog.Metadata) (time.Duration, error) {
	text, ok := m.Configuration[PropertyRetention]
	if !ok {
		return DefaultRetention, nil
	}
	d, err := parseInterval(text)
	if err != nil {
		return 0, fmt.Errorf("history: %s is %q: %w", PropertyRetention, text, err)
	}
	return d, nil
}

var units = map[string]time.Duration{"microsecond": time.Microsecond, "millisecond": time.Millisecond,
	"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour}

// parseInterval reads Spark's text of an interval of fixed length: "interval 1 week 2 days", "7 days". Months and years
// have none and are refused, as Delta refuses them.
func parseInterval(text string) (sum time.Duration, err error) {
	words := strings.Fields(strings.ToLower(text))
	if len(words) > 0 && words[0] == "interval" {
		words = words[1:]
	}
	if len(words) == 0 || len(words)%2 != 0 {
		return 0, fmt.Errorf("no interval, as \"interval 7 days\" is one")
	}
	for i := 0; i < len(words); i += 2 {
		n, err := strconv.ParseInt(words[i], 10, 64)
		unit, ok := units[strings.TrimSuffix(words[i+1], "s")]
		if err != nil || !ok {
			return 0, fmt.Errorf("no interval of fixed length: %q", words[i]+" "+words[i+1])
		}
		part := time.Duration(n) * unit
		if n < 0 || part/unit != time.Duration(n) || sum+part < sum {
			return 0, fmt.Errorf("an interval out of range")
		}
		sum += part
	}
	return sum, nil
}
