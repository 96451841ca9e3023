package event

import "fmt"

// This file has what batchGuarded carries of suppressed readers.

// checkSuppressed holds the suppressed records to their ranges, and apart from items and rejects: each offset has one
// verdict.
func (b *Batch) checkSuppressed(version byte) error {
	if version < batchGuarded && (b.List != 0 || len(b.Suppressed) > 0) {
		return fmt.Errorf("event: batch with a list of suppressed readers in version %d", version)
	}
	for i := range b.Rejects {
		r := &b.Rejects[i]
		if r.Withheld && (version < batchGuarded || r.Length != 0 || r.SHA256 != [sha]byte{}) {
			return fmt.Errorf("event: reject %d/%d is withheld, and shows %d bytes", r.Partition, r.Offset, r.Length)
		}
	}
	ranges, items, rejects := b.Ranges, b.Items, b.Rejects
	next := position{}
	for i := range b.Suppressed {
		s := &b.Suppressed[i]
		at := position{s.Partition, s.Offset}
		for len(ranges) > 0 && ranges[0].Partition < s.Partition {
			ranges = ranges[1:]
		}
		for len(items) > 0 && items[0].position().before(at) {
			items = items[1:]
		}
		for len(rejects) > 0 && rejects[0].position().before(at) {
			rejects = rejects[1:]
		}
		switch {
		case at.before(next), len(ranges) == 0, ranges[0].Partition != s.Partition, s.Offset < ranges[0].From,
			s.Offset >= ranges[0].To:
			return fmt.Errorf("event: suppressed record %d/%d in no range or out of order", s.Partition, s.Offset)
		case len(items) > 0 && items[0].position() == at, len(rejects) > 0 && rejects[0].position() == at:
			return fmt.Errorf("event: suppressed record %d/%d has another verdict, too", s.Partition, s.Offset)
		case !s.By.Valid():
			return fmt.Errorf("event: suppressed record %d/%d by %s", s.Partition, s.Offset, s.By)
		}
		next = position{s.Partition, s.Offset + 1}
	}
	return nil
}

// position is the place of a record.
type position struct {
	Partition int32
	Offset    int64
}

func (p position) before(o position) bool {
	return p.Partition < o.Partition || p.Partition == o.Partition && p.Offset < o.Offset
}

func (it *Item) position() position  { return position{it.Partition, it.Offset} }
func (r *Reject) position() position { return position{r.Partition, r.Offset} }

// suppressed writes the number of the list, and for each range how many records it has left out, and those: the gap
// before each, doubled, and 1 more if it was left out by its session.
func (e *batchEncoder) suppressed(b *Batch) {
	e.uint(b.List)
	if !e.has(len(b.Suppressed) > 0) {
		return
	}
	rest := b.Suppressed
	for i := range b.Ranges {
		r := &b.Ranges[i]
		n := 0
		for n < len(rest) && rest[n].Partition == r.Partition {
			n++
		}
		e.uint(uint64(n))
		next := r.From
		for _, s := range rest[:n] {
			e.uint(uint64(s.Offset-next)<<1 | uint64(s.By-SuppressUser))
			next = s.Offset + 1
		}
		rest = rest[n:]
	}
}

func (r *reader) suppressed(b *Batch) {
	const what = "suppressed records"
	b.List = r.uint("number of the list of suppressed readers")
	if !r.has(what) {
		return
	}
	for i := range b.Ranges {
		next := b.Ranges[i].From
		for range r.count(MaxBatchRecords-len(b.Suppressed), what) {
			v := r.uint(what)
			if r.err != nil {
				return
			}
			b.Suppressed = append(b.Suppressed, SuppressedRecord{Partition: b.Ranges[i].Partition,
				Offset: next + int64(v>>1), By: SuppressUser + SuppressKind(v&1)})
			next += int64(v>>1) + 1
		}
	}
	if len(b.Suppressed) == 0 {
		r.fail(what)
	}
}

// withheldColumn has a bit for each reject, if any is withheld.
func (e *batchEncoder) withheldColumn(rejects []Reject) {
	e.bits(len(rejects), func(i int) bool { return rejects[i].Withheld })
}

func (r *reader) withheldColumn(rejects []Reject) {
	for i, id := range r.bits(len(rejects), "letters that show nothing") {
		rejects[i].Withheld = id == 1
	}
}
