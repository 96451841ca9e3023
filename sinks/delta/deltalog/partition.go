package deltalog

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

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
// of the columns, which is that of their names. Readers take the values from the log, not from here. So what the store
// takes in a key is enough, and nothing in a path of the log has to be percent-encoded, which readers undo once, twice
// or not at all: of a value, letters, digits, "." and "-" stand for themselves, any other byte as "_" and two
// hexadecimal digits. A long value is cut, and ends with its hash.
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
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-'
}

// escape returns v itself if it has nothing to be escaped.
func escape(v []byte) []byte {
	if !slices.ContainsFunc(v, func(c byte) bool { return !plainByte(c) }) {
		return v
	}
	var b []byte
	for _, c := range v {
		if plainByte(c) {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "_%02X", c)
		}
	}
	return b
}

func unescape(v string) string {
	if !strings.Contains(v, "_") {
		return v
	}
	var b []byte
	for i := 0; i < len(v); i++ {
		var c byte
		if v[i] != '_' || i+2 >= len(v) {
			b = append(b, v[i])
		} else if _, err := fmt.Sscanf(v[i+1:i+3], "%02X", &c); err == nil {
			b = append(b, c)
			i += 2
		} else {
			b = append(b, v[i])
		}
	}
	return string(b)
}

// partitionIn is the partition of an action with these values.
func partitionIn(values map[string]string, columns []string) string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = values[c]
	}
	return Partition(all...)
}
