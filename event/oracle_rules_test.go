package event

import (
	"bytes"
	"encoding/json"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
)

// The oracle's words for the rules of FormsReal and for exclude rules.

// oracleTime is a timestamp in Unix seconds; false for what is no time of the year 1970 or later.
func oracleTime(v json.RawMessage, real bool) (int64, bool) {
	token := string(v)
	if real && token[0] == '"' {
		if err := json.Unmarshal(v, &token); err != nil {
			panic(err)
		}
		if t, ok := oracleRFC3339(token); ok {
			return t, true
		}
	}
	if token[0] == '-' {
		return 0, false
	}
	if at := strings.IndexAny(token, "eE"); at >= 0 { // big.Rat would write the number out
		if exp, err := strconv.Atoi(token[at+1:]); err != nil || exp > 100_000 || exp < -100_000 {
			zero := strings.Trim(token[:at], "0.") == ""
			return 0, zero || strings.HasPrefix(token[at+1:], "-")
		}
	}
	r, ok := new(big.Rat).SetString(token)
	if !ok {
		panic(token)
	}
	n := new(big.Int).Quo(r.Num(), r.Denom())
	if !n.IsInt64() {
		return 0, false
	}
	units := []int64{1e17, 1e9, 1e14, 1e6, 1e11, 1e3}
	if !real {
		units = units[4:]
	}
	for ; len(units) > 0; units = units[2:] {
		if n.Int64() >= units[0] {
			return n.Int64() / units[1], true
		}
	}
	return n.Int64(), true
}

var rfc3339 = regexp.MustCompile(
	`^(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3])(:[0-5]\d:)([0-5]\d|60)(\.\d+)?([Zz]|([+-])([01]\d|2[0-3]):?([0-5]\d))$`)

func oracleRFC3339(s string) (int64, bool) {
	m := rfc3339.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	leap := int64(0)
	if m[4] == "60" {
		m[4], leap = "59", 1
	}
	t, err := time.Parse("2006-01-02 15:04:05", m[1]+" "+m[2]+m[3]+m[4])
	if err != nil {
		return 0, false
	}
	offset := int64(0)
	if m[7] != "" {
		hours, _ := strconv.Atoi(m[8])
		minutes, _ := strconv.Atoi(m[9])
		if offset = int64(hours*60+minutes) * 60; m[7] == "-" {
			offset = -offset
		}
	}
	return t.Unix() + leap - offset, true
}

// jsonNumber is a JSON number and nothing else.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

var decimalPattern = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

func oracleUser(s string) (id uint64, key string) {
	if n, ok := new(big.Int).SetString(s, 10); ok && decimalPattern.MatchString(s) && n.IsInt64() {
		return n.Uint64(), ""
	}
	h := xxhash.NewWithSeed(0)
	_, _ = h.WriteString(s)
	return h.Sum64() | 1<<63, s
}

// oracleNormal is NormalizeJSON: the text itself, or what it becomes without white space.
func oracleNormal(text string) string {
	if text == "" {
		return ""
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(text)); err != nil {
		panic(err)
	}
	if out := oracleValue(compact.Bytes()); out != compact.String() {
		return out
	}
	return text
}

func oracleValue(v json.RawMessage) string {
	v = bytes.TrimSpace(v)
	switch {
	case v[0] == '{':
		members, _ := membersOf(v)
		var out []string
		for i, m := range members {
			later := slices.ContainsFunc(members[i+1:], func(o member) bool { return o.name == m.name })
			if !later {
				out = append(out, m.rawName+":"+oracleValue(m.value))
			}
		}
		return "{" + strings.Join(out, ",") + "}"
	case v[0] == '[':
		var values []json.RawMessage
		if err := json.Unmarshal(v, &values); err != nil {
			panic(err)
		}
		var out []string
		for _, e := range values {
			out = append(out, oracleValue(e))
		}
		return "[" + strings.Join(out, ",") + "]"
	case string(v) == "-0":
		return "0"
	case integerPattern.Match(v):
		n, _ := new(big.Int).SetString(string(v), 10)
		if n.CmpAbs(big.NewInt(1<<53)) >= 0 {
			return `"` + string(v) + `"`
		}
	case numberPattern.Match(v):
		if _, err := strconv.ParseFloat(string(v), 64); err != nil || len(v) > 1000 {
			return `"` + string(v) + `"`
		}
	}
	return string(v)
}

// oracleExcludes says whether the record, a valid one, fits the rule.
func oracleExcludes(x *Exclude, record []byte) bool {
	v, ok := oraclePath(record, x.Field)
	if !ok {
		return false
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		s = string(v)
	}
	if bytes.ContainsAny(v[:1], "{[n") {
		return false
	}
	if slices.Contains(x.Equal, s) ||
		slices.ContainsFunc(x.Suffix, func(e string) bool { return strings.HasSuffix(s, e) }) {
		return true
	}
	host := oracleHost.ReplaceAllString(oracleAuthority.FindStringSubmatch(s)[1], "$2")
	for _, h := range x.Hosts {
		if strings.HasSuffix("."+strings.ToLower(host), "."+strings.ToLower(h)) {
			return true
		}
	}
	ip := net.ParseIP(strings.TrimSpace(s))
	if h, port, err := net.SplitHostPort(strings.TrimSpace(s)); ip == nil && err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil {
			ip = net.ParseIP(h)
		}
	}
	for _, n := range x.Networks {
		_, network, err := net.ParseCIDR(n)
		if err == nil && ip != nil && network.Contains(ip) {
			return true
		}
	}
	return false
}

// oracleAuthority finds what stands between the first // and the next separator, oracleHost the host within it.
var (
	oracleAuthority = regexp.MustCompile(`(?s)^(?:.*?//)?([^/?#\\]*)`)
	oracleHost      = regexp.MustCompile(`(?s)^(.*@)?(.*?)\.?(:[^:\]]*)?$`)
)

// oraclePath is the value of the last member of that name or, without one, the rest of a dotted name within the object
// before the dot.
func oraclePath(object json.RawMessage, path string) (json.RawMessage, bool) {
	members, ok := membersOf(object)
	if !ok {
		return nil, false
	}
	slices.Reverse(members)
	for _, m := range members {
		if m.name == path {
			return m.value, true
		}
	}
	head, rest, dotted := strings.Cut(path, ".")
	for _, m := range members {
		if dotted && m.name == head {
			return oraclePath(m.value, rest)
		}
	}
	return nil, false
}
