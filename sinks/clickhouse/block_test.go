package clickhouse

import (
	"slices"
	"testing"
	"unsafe"

	"deckle/schema"
)

// A row's texts lie in memory that the next row takes. A column of few distinct texts keeps references, so it must not
// keep those: neither what it appends nor what it compares the next text with.
func TestLowTextsAreCopied(t *testing.T) {
	b := newSessionBlock(newest())
	memory := []byte("aaaa")
	row := schema.SessionRow{SessionID: "s", Origin: "0/1", SessionDate: 20_000, Status: schema.StatusOpen,
		Brand: unsafe.String(&memory[0], len(memory))}
	want := []string{"aaaa", "bbbb", "bbbb", "aaaa"}
	for i, brand := range want {
		copy(memory, brand)
		if err := b.append(i, 0, &row); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range b.cells {
		if b.table.columns[i].name != "brand" {
			continue
		}
		if got := c.(*lowCell[schema.SessionRow]).col.Values; !slices.Equal(got, want) {
			t.Fatalf("brands %q, want %q", got, want)
		}
		return
	}
	t.Fatal("there is no column brand")
}
