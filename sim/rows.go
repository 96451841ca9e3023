package sim

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// HashRow is 64-bit FNV-1a of a row.
func HashRow(row []string) uint64 {
	h := newHash()
	var n [4]byte
	for _, c := range row {
		binary.LittleEndian.PutUint32(n[:], uint32(len(c)))
		h.Write(n[:])
		h.Write([]byte(c))
	}
	return h.Sum64()
}

// Mark is the fingerprint of a row of table events: its hash, and 16 bits of the hash of each column.
type Mark []byte

func mark(row []string) Mark {
	m := binary.LittleEndian.AppendUint64(make(Mark, 0, markSize(len(row))), HashRow(row))
	for _, c := range row {
		m = binary.LittleEndian.AppendUint16(m, columnHash(c))
	}
	return m
}

func columnHash(text string) uint16 {
	h := newHash()
	h.Write([]byte(text))
	s := h.Sum64()
	return uint16(s ^ s>>16 ^ s>>32 ^ s>>48)
}

// Hash is the HashRow of the row.
func (m Mark) Hash() uint64 { return binary.LittleEndian.Uint64(m) }

// Differs returns the indexes of the columns in which the row is not the marked one. It is empty for another row only
// if the columns' short hashes collide; Hash then differs all the same.
func (m Mark) Differs(row []string) (columns []int) {
	for i, c := range row {
		if len(m) < markSize(i+1) || binary.LittleEndian.Uint16(m[markSize(i):]) != columnHash(c) {
			columns = append(columns, i)
		}
	}
	return columns
}

// Column returns the short hash of one column, for a report.
func (m Mark) Column(i int) string {
	return fmt.Sprintf("hash %04x", binary.LittleEndian.Uint16(m[markSize(i):]))
}

// MarshalJSON writes [partition, offset, "mark"].
func (e EventMark) MarshalJSON() ([]byte, error) {
	b := fmt.Appendf(nil, `[%d,%d,"`, e.Partition, e.Offset)
	return append(base64.RawStdEncoding.AppendEncode(b, e.Mark), '"', ']'), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *EventMark) UnmarshalJSON(b []byte) error {
	var text string
	list := []any{&e.Partition, &e.Offset, &text}
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	m, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("sim: mark of an event: %w", err)
	}
	if len(m) != markSize(len(EventColumns)) {
		return fmt.Errorf("sim: mark of an event has %d bytes, not %d", len(m), markSize(len(EventColumns)))
	}
	e.Mark = m
	return nil
}

// CanonicalJSON returns the same JSON value in one form: sorted keys, no spaces, numbers as float64. Text that is not
// JSON is returned marked as such; "" stays "".
func CanonicalJSON(text string) string {
	if text == "" {
		return ""
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return "not JSON: " + text
	}
	return encode(v)
}

// CanonicalPageEvents is CanonicalJSON of a page_events column; members of its objects that are null, "" or {} are left
// out, because they say no more than a missing one.
func CanonicalPageEvents(text string) string {
	var list []map[string]any
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return "not an array of objects: " + text
	}
	for _, m := range list {
		for k, v := range m {
			if o, ok := v.(map[string]any); v == nil || v == "" || ok && len(o) == 0 {
				delete(m, k)
			}
		}
	}
	return encode(list)
}

func encode(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "not JSON: " + err.Error()
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
