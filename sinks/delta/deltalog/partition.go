package deltalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Values are the partition values of a file, by column. The value "" is null, as the protocol says for every type of
// column. Not every reader obeys that (delta-rs), so null is written as null, in the log's JSON and in checkpoints, and
// read from either form.
type Values map[string]string

// MarshalJSON writes null for null. There is a map, if an empty one, where there are no values: readers take null for
// damage.
func (v Values) MarshalJSON() ([]byte, error) {
	values := make(map[string]*string, len(v))
	for c, text := range v {
		if values[c] = &text; text == "" {
			values[c] = nil
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // whoever encodes this decides on that
	if err := enc.Encode(values); err != nil {
		return nil, fmt.Errorf("delta: partition values: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// A partition of a table is named by one text: the values of its partition columns, in the order of the columns' names,
// escaped, with slashes between them; the value null is empty. Of a table that is partitioned by a date it is the date.

// Partition names the partition with these values, one for each partition column in the order of the columns' names.
// The value "" is null, as the protocol reads partition values.
func Partition(values ...string) string {
	escaped := make([]string, len(values))
	for i, v := range values {
		escaped[i] = string(escape([]byte(v)))
	}
	return strings.Join(escaped, "/")
}

// PartitionValues is the inverse of Partition.
func PartitionValues(partition string) []string {
	values := strings.Split(partition, "/")
	for i, v := range values {
		values[i] = unescape(v)
	}
	return values
}

// nullFolder is the value in the name of a folder that stands for null.
const nullFolder = "__HIVE_DEFAULT_PARTITION__"

// longestFolder is how many bytes of an escaped value the name of a folder has at most: file systems take 255.
const longestFolder = 200

// Folder returns the folder of a partition, below that of the table: column=value, separated by slashes, in the order
// of the columns, which is that of their names. Readers take the values from the log; but Polars takes them from here.
// So letters, digits, "_", "." and "-" stand for themselves, which the names of brands are made of. Any other byte of a
// value stands as ".-" and two hexadecimal digits: the store takes that in a key, and nothing in a path of the log has
// to be percent-encoded, which readers undo once, twice or not at all. A long value is cut, and ends with its hash.
func Folder(columns []string, partition string) string {
	var b strings.Builder
	for i, v := range strings.Split(partition, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		switch {
		case v == "":
			v = nullFolder
		case len(v) > longestFolder:
			v = fmt.Sprintf("%s-%016x", v[:longestFolder-17], xxhash.Sum64String(v))
		}
		b.WriteString(columns[i] + "=" + v)
	}
	return b.String()
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
}

// escape returns v itself if it has nothing to be escaped.
func escape(v []byte) []byte {
	begin, isNull := []byte(escapeBegin), string(v) == nullFolder
	if !isNull && !bytes.Contains(v, begin) && !slices.ContainsFunc(v, func(c byte) bool { return !plainByte(c) }) {
		return v
	}
	var b []byte
	for i, c := range v {
		if plainByte(c) && !bytes.HasPrefix(v[i:], begin) && !(isNull && i == 0) {
			b = append(b, c)
		} else {
			b = fmt.Appendf(append(b, begin...), "%02X", c)
		}
	}
	return b
}

// escapeBegin is what stands before the hexadecimal digits of an escaped byte, and nowhere else in an escaped value.
const escapeBegin = ".-"

func unescape(v string) string {
	if !strings.Contains(v, escapeBegin) {
		return v
	}
	var b []byte
	for i := 0; i < len(v); i++ {
		var c byte
		digits, ok := strings.CutPrefix(v[i:], escapeBegin)
		if !ok || len(digits) < 2 {
			b = append(b, v[i])
		} else if _, err := fmt.Sscanf(digits[:2], "%02X", &c); err == nil {
			b = append(b, c)
			i += len(escapeBegin) + 1
		} else {
			b = append(b, v[i])
		}
	}
	return string(b)
}

// partitionIn is the partition of an action with these values.
func partitionIn(values Values, columns []string) string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = values[c]
	}
	return Partition(all...)
}
