package deltalog

import (
	"errors"

	"github.com/parquet-go/parquet-go"

	"deckle/sinks/delta/deletionvector"
)

// vector is the deletion vector of the row's add (addVector) or remove (removeVector), nil if it has none. One of which
// something is missing is an error: a row that is not hidden comes back.
func (v *checkpointView) vector(first leaf) (*deletionvector.Descriptor, error) {
	n := 0
	for l := first; l < first+5; l++ {
		if v.has(l) {
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	d := &deletionvector.Descriptor{StorageType: string(v.bytes(first)), Path: string(v.bytes(first + 1)),
		Cardinality: v.int(first + 4)}
	if x, ok := v.one(first + 2); ok {
		off := x.Int32()
		d.Offset = &off
	} else {
		n++
	}
	if x, ok := v.one(first + 3); ok {
		d.Size = x.Int32()
	}
	if n != 5 {
		return nil, errors.New("a part of a deletion vector is missing")
	}
	return d, d.Check()
}

// vectorOf are the columns of an action's deletion vector, in the order of the protocol.
func vectorOf(action string) (c [5]columnSpec) {
	for i, name := range []string{"storageType", "pathOrInlineDv", "offset", "sizeInBytes", "cardinality"} {
		c[i] = columnOf(action, "deletionVector", name)
	}
	return c
}

// vector puts a deletion vector, or none.
func (b *rowBuilder) vector(c *[5]columnSpec, d *deletionvector.Descriptor) {
	if d == nil {
		for _, at := range c {
			b.put(at.at, parquet.NullValue(), 0, c[0].defined-1)
		}
		return
	}
	b.text(c[0], []byte(d.StorageType))
	b.text(c[1], []byte(d.Path))
	offset := parquet.Value{}
	if d.Offset != nil {
		offset = parquet.Int32Value(*d.Offset)
	}
	b.optional(c[2], offset, d.Offset != nil)
	b.put(c[3].at, parquet.Int32Value(d.Size), 0, c[3].defined)
	b.int(c[4], d.Cardinality)
}
