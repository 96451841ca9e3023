package event

import (
	"math"
	"strconv"
	"strings"
)

// Limits of the numbers of engagement_metrics (docs/schema.md, session_metrics). With at most 2,000 counted events per
// session, no sum of them can overflow an int64.
const (
	maxSeconds = 1e9 // of time_on_page and playback_position
	maxRevenue = 1e6 // of ad_revenue, in units of the currency
	maxScroll  = 100
)

// metricKey names the fields of engagement_metrics that sessions read.
type metricKey uint8

const (
	keyTimeOnPage metricKey = iota
	keyPlaybackPosition
	keyAdRevenue
	keyScrollDepth
	keyReadProgress
	keyComplete
	numMetricKeys
)

// NumMetrics is the number of fields of engagement_metrics that sessions read.
const NumMetrics = int(numMetricKeys)

// MetricNames are the fields of engagement_metrics that sessions read, in the order of Counts.Zeroed.
func MetricNames() (names [NumMetrics]string) {
	for k := range metrics {
		names[k] = metrics[k].name
	}
	return names
}

// metrics are the fields of engagement_metrics that sessions read.
var metrics = [numMetricKeys]struct {
	name string
	// measure computes Event.Measure, for events of type of, from the number. At most one field per type has it; it is
	// nil for the fields that have a place of their own in an Event.
	measure func(token string) uint64
	of      Type
	// shown says that the text usually holds the decimal form of the measure, so that shapes point to it.
	shown bool
}{
	keyTimeOnPage:       {"time_on_page", seconds, ArticleView, true},
	keyPlaybackPosition: {"playback_position", seconds, VideoPlay, true},
	keyAdRevenue:        {"ad_revenue", micros, AdClick, false},
	keyScrollDepth:      {"scroll_depth", nil, ArticleView, false},
	keyReadProgress:     {"read_progress", nil, ArticleView, false},
	keyComplete:         {"is_article_complete", nil, ArticleView, false},
}

// measureOf is the field from which a type's Measure is computed, numMetricKeys if there is none.
var measureOf = func() (of [NumTypes]metricKey) {
	for t := range of {
		of[t] = numMetricKeys
	}
	for k := range metrics {
		if m := &metrics[k]; m.measure != nil {
			of[m.of] = metricKey(k)
		}
	}
	return of
}()

// Measured are the types whose events have a Measure.
func Measured() (types []Type) {
	for t := range NumTypes {
		if measureOf[t] < numMetricKeys {
			types = append(types, t)
		}
	}
	return types
}

// parseMetricKey returns numMetricKeys for a key that sessions do not read.
func parseMetricKey(key string) metricKey {
	for k := range metrics {
		if metrics[k].name == key {
			return metricKey(k)
		}
	}
	return numMetricKeys
}

// metricValues are values of one engagement_metrics object: first as they stand in it, "" where the key is missing,
// and then number tokens.
type metricValues [numMetricKeys]string

// first keeps of the values those that are numbers, by the rule of v0.1.0.
func (v *metricValues) first() {
	for k, raw := range v {
		if raw != "" && raw[0] != '-' && !digit(raw[0]) {
			v[k] = ""
		}
	}
}

// read makes the values that events of type t contribute number tokens: numbers as they are or in a text, and 1 for an
// is_article_complete that is true. zeroed has bit k if field k has a value that is none of this and so counts as 0;
// null and "" are no value.
func (v *metricValues) read(t Type) (zeroed uint8) {
	for _, k := range metricsOf[t] {
		raw := v[k]
		if raw == "" || k != keyComplete && (digit(raw[0]) || raw[0] == '-') {
			continue // a JSON value that begins so is a number
		}
		token, ok := v.odd(k)
		v[k] = token
		if !ok {
			zeroed |= 1 << k
		}
	}
	return zeroed
}

// metricsOf are the fields that events of a type contribute.
var metricsOf = func() (of [NumTypes][]metricKey) {
	for k := range metrics {
		of[metrics[k].of] = append(of[metrics[k].of], metricKey(k))
	}
	return of
}()

// odd reads a value that does not begin as a number, or is_article_complete.
func (v *metricValues) odd(k metricKey) (token string, ok bool) {
	s := v[k]
	if s[0] == '"' {
		inner := s[1 : len(s)-1]
		s = plainText(bytesOf(inner), strings.IndexByte(inner, '\\') >= 0)
	} else if s == "null" {
		s = ""
	}
	switch {
	case s == "":
		return "", true
	case k == keyComplete:
		return truth(s)
	case isNumber(s):
		return s, true
	}
	return "", false
}

// truth reads true, false, 1 or 0.
func truth(s string) (token string, ok bool) {
	switch s {
	case "true":
		return "1", true
	case "false":
		return "", true
	}
	if isNumber(s) {
		switch f, _ := strconv.ParseFloat(s, 64); f {
		case 1:
			return "1", true
		case 0:
			return "", true
		}
	}
	return "", false
}

// isNumber says whether the text is a JSON number.
func isNumber(s string) bool {
	if s == "" || s[0] != '-' && !digit(s[0]) {
		return false
	}
	n := scanner{in: bytesOf(s)}
	end, _ := n.number(0)
	return end == len(s)
}

// article returns Event.Progress and Event.Complete of an article_view, once read has made the values tokens.
func (v *metricValues) article() (progress uint8, complete bool) {
	return uint8(held(v[keyReadProgress], maxScroll)), v[keyComplete] != ""
}

// measures returns Event.Measure and Event.Scroll of an event of type t.
func (v *metricValues) measures(t Type) (measure uint64, scroll uint8) {
	if k := measureOf[t]; k < numMetricKeys {
		measure = metrics[k].measure(v[k])
	}
	if t == metrics[keyScrollDepth].of {
		scroll = uint8(held(v[keyScrollDepth], maxScroll))
	}
	return measure, scroll
}

// micros is a number in millionths. The explicit conversion forbids the compiler to fuse the product with Round's
// arithmetic, so that every architecture computes the same integer.
func micros(token string) uint64 {
	return uint64(math.Round(float64(held(token, maxRevenue) * 1e6)))
}

func seconds(token string) uint64 { return uint64(held(token, maxSeconds)) }

// held is the value of a JSON number token held to 0..limit, 0 for "". A number too large for a float64 is infinite,
// so it is held to the limit as well.
func held(token string, limit float64) float64 {
	if token == "" || token[0] == '-' {
		return 0
	}
	if len(token) <= 15 { // an integer of at most 15 digits is exact in a float64
		n, digits := int64(0), true
		for i := range len(token) {
			c := token[i] - '0'
			digits = digits && c <= 9
			n = n*10 + int64(c)
		}
		if digits {
			return min(float64(n), limit)
		}
	}
	f, _ := strconv.ParseFloat(token, 64) // the only error a JSON number can cause is the range's, with ±Inf
	return min(f, limit)
}
