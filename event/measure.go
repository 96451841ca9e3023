package event

import (
	"math"
	"strconv"
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
	numMetricKeys
)

// metrics are the fields of engagement_metrics that sessions read.
var metrics = [numMetricKeys]struct {
	name string
	// measure computes Event.Measure, for events of type of, from the number. At most one field per type has it; it is
	// nil for scroll_depth.
	measure func(token string) uint64
	of      Type
	// shown says that the text usually holds the decimal form of the measure, so that shapes point to it.
	shown bool
}{
	keyTimeOnPage:       {"time_on_page", seconds, ArticleView, true},
	keyPlaybackPosition: {"playback_position", seconds, VideoPlay, true},
	keyAdRevenue:        {"ad_revenue", micros, AdClick, false},
	keyScrollDepth:      {"scroll_depth", nil, ArticleView, false},
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

// metricValues are the number tokens of one engagement_metrics object, "" where the key is missing or its value is no
// number.
type metricValues [numMetricKeys]string

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
