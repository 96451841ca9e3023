package event

import "time"

const (
	minTimestamp = 946684800 // 2000-01-01T00:00:00Z
	maxTimestamp = 1<<32 - 1 // 2106-02-07T06:28:15Z: the end of ClickHouse's DateTime
)

// NoKafkaTime stands for a Kafka timestamp that says nothing: one that is missing or cannot be true.
const NoKafkaTime = 0

// KafkaTime returns a record's Kafka timestamp, in Unix milliseconds, as the rules take it: from FormsReal on
// NoKafkaTime if it is before the year 2000 or later than 4294967295 seconds (in 2106).
//
// franz-go makes t of the milliseconds on the wire by time.Unix(0, millis*1e6), which wraps around for times that
// nanoseconds cannot hold. What comes out of that is seldom a whole number of milliseconds between 2000 and 2106. If it
// is, the producer's value differs from it by a multiple of 2^58 ms, and is read as this time.
func (r *Rules) KafkaTime(t time.Time) int64 {
	if r == nil || r.Forms < FormsReal {
		return t.UnixMilli()
	}
	if t.Nanosecond()%1_000_000 != 0 {
		return NoKafkaTime
	}
	return plausible(t.UnixMilli())
}

// plausible returns the Kafka timestamp, or NoKafkaTime if it cannot be true.
func plausible(millis int64) int64 {
	if millis < minTimestamp*1000 || millis > maxTimestamp*1000+999 {
		return NoKafkaTime
	}
	return millis
}

// What a number means as a time: seconds below firstMillis, then milliseconds, microseconds and nanoseconds. The times
// from 2000 to 2106 lie far within each unit.
const (
	firstMillis = 1e11
	firstMicros = 1e14
	firstNanos  = 1e17
)

// secondsOf returns the Unix seconds of a number by its magnitude, cut.
func secondsOf(n uint64) int64 {
	switch {
	case n >= firstNanos:
		n /= 1e9
	case n >= firstMicros:
		n /= 1e6
	case n >= firstMillis:
		n /= 1e3
	}
	return int64(n)
}

// wholePart returns the whole part of a JSON number that is not negative, exactly, whatever its form. It returns false
// for a negative number and from 2^63 on.
func wholePart(token string) (n uint64, ok bool) {
	if token[0] == '-' {
		return 0, false
	}
	// The digits of the mantissa, and how many of them stand before the point once the exponent has moved it.
	exp, end := 0, len(token)
	for i := range len(token) {
		if token[i]|0x20 == 'e' {
			end = i
			exp = exponent(token[i+1:])
			break
		}
	}
	whole, digits := end, 0
	for i := range end {
		if token[i] == '.' {
			whole = i
		}
	}
	before := whole + exp
	for i := 0; i < end && digits < before; i++ {
		if token[i] == '.' {
			continue
		}
		if n > (1<<63-1)/10 {
			return 0, false
		}
		n = n*10 + uint64(token[i]-'0')
		digits++
	}
	for ; digits < before && n > 0; digits++ {
		if n > (1<<63-1)/10 {
			return 0, false
		}
		n *= 10
	}
	return n, n < 1<<63
}

// exponent reads digits with or without a sign, held to ±2^30: no record is as long.
func exponent(s string) (n int) {
	negative := s[0] == '-'
	if negative || s[0] == '+' {
		s = s[1:]
	}
	for i := range len(s) {
		n = min(n*10+int(s[i]-'0'), 1<<30)
	}
	if negative {
		return -n
	}
	return n
}

// parseTime reads a time of RFC 3339 and returns its Unix seconds, cut. A space may stand for the T, and the offset may
// stand without its colon, as some libraries write it. It returns false for anything else.
func parseTime(s string) (seconds int64, ok bool) {
	const form = "0000-00-00T00:00:00"
	if len(s) <= len(form) {
		return 0, false
	}
	for i := range len(form) {
		switch c := s[i]; form[i] {
		case '0':
			ok = digit(c)
		case 'T':
			ok = c == 'T' || c == 't' || c == ' '
		default:
			ok = c == form[i]
		}
		if !ok {
			return 0, false
		}
	}
	number := func(i, n int) (v int) {
		for _, c := range []byte(s[i : i+n]) {
			v = v*10 + int(c-'0')
		}
		return v
	}
	year, month, day := number(0, 4), number(5, 2), number(8, 2)
	hour, minute, second := number(11, 2), number(14, 2), number(17, 2)
	t := time.Date(year, time.Month(month), day, hour, minute, 0, 0, time.UTC)
	if t.Year() != year || int(t.Month()) != month || t.Day() != day || hour > 23 || minute > 59 || second > 60 {
		return 0, false // time.Date has carried a day that the month does not have
	}
	rest := s[len(form):]
	if rest[0] == '.' {
		i := 1
		for i < len(rest) && digit(rest[i]) {
			i++
		}
		if i == 1 {
			return 0, false
		}
		rest = rest[i:]
	}
	offset, ok := parseOffset(rest)
	return t.Unix() + int64(second) - offset, ok // second 60 is a leap second: the second after it in Unix time
}

// parseOffset reads Z, ±hh:mm or ±hhmm and returns the seconds east of Greenwich.
func parseOffset(s string) (seconds int64, ok bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	if len(s) == 6 && s[3] == ':' {
		s = s[:3] + s[4:]
	}
	if len(s) != 5 || s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	for i := 1; i < 5; i++ {
		if !digit(s[i]) {
			return 0, false
		}
	}
	hours, minutes := int64(s[1]-'0')*10+int64(s[2]-'0'), int64(s[3]-'0')*10+int64(s[4]-'0')
	if hours > 23 || minutes > 59 {
		return 0, false
	}
	seconds = hours*3600 + minutes*60
	if s[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}
