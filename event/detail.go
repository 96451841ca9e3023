package event

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDetail is the greatest length in bytes of the detail of a dead letter.
const MaxDetail = 256

const (
	maxDetailSample = 64 // bytes of a value that a detail shows
	maxDetailHex    = 32 // bytes that a detail shows of what is not JSON
)

// malformed says why a record that is not JSON is none. f is the field in whose value that was found.
func (d *Decoder) malformed(f field) string {
	var b strings.Builder
	if f != fieldExtra {
		b.WriteString(fields[f].name)
		b.WriteString(": ")
	}
	b.WriteString(d.err)
	b.WriteString(" at byte ")
	b.WriteString(strconv.Itoa(d.errAt))
	if d.real && len(d.in) > 0 && !d.errJSON {
		if !d.hides && !d.withheld && !d.Rules.guards() {
			b.WriteString("; begins with ")
			b.WriteString(hex.EncodeToString(d.in[:min(len(d.in), maxDetailHex)]))
		}
		b.WriteString(prefixOf(d.in))
	}
	return b.String()
}

// prefixOf names what stands before a record that would be JSON without it.
func prefixOf(in []byte) string {
	switch {
	case len(in) > 5 && in[0] == 0 && in[5] == '{':
		schema := binary.BigEndian.Uint32(in[1:])
		return " (a schema-registry prefix, schema " + strconv.FormatUint(uint64(schema), 10) + ")"
	case bytes.HasPrefix(in, []byte("\xef\xbb\xbf")):
		return " (a byte-order mark)"
	case bytes.HasPrefix(in, []byte("\x1f\x8b")):
		return " (compressed by gzip)"
	case bytes.HasPrefix(in, []byte("\x28\xb5\x2f\xfd")):
		return " (compressed by zstd)"
	}
	return ""
}

// detail names the field, says what is wrong with it and shows the beginning of its value as it was sent, or what it is
// if nothing may be shown.
func (d *Decoder) detail(f field, why string, raw []byte) string {
	s := fields[f].name + ": " + why
	if len(raw) == 0 {
		return s
	}
	if d.hides || d.withheld || d.private != nil && d.private.watched&(1<<f) != 0 {
		return s + ": " + describe(raw)
	}
	if len(raw) > maxDetailSample {
		return s + ": " + CutText(alias(raw), maxDetailSample) + "…"
	}
	return s + ": " + string(raw)
}

// CutText returns the longest prefix of at most n bytes that ends between two characters.
func CutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// missing names, from FormsReal on, the fields of the set that have no value: a record of another tracker's shape
// usually lacks several, and the first fault alone does not show it.
func (d *Decoder) missing(set uint32, also string) string {
	if !d.real || set&^d.filled == 0 {
		return ""
	}
	var names []string
	for f := range lastRequired + 1 {
		if set&^d.filled&(1<<f) != 0 {
			names = append(names, fields[f].name)
		}
	}
	return "; " + also + "missing: " + strings.Join(names, ", ")
}
