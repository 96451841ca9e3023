package verify

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"deckle/sim"
)

// gapReader is a Reader whose tables say what has been given up of them.
type gapReader interface {
	Gaps(ctx context.Context, table string) ([]Gap, error)
}

// gapsOf returns the gaps of a table; only raw events can have any.
func gapsOf(ctx context.Context, t Table) (gaps, error) {
	r, ok := t.Reader.(gapReader)
	if !ok || t.Kind != Events {
		return nil, nil
	}
	return r.Gaps(ctx, t.Source)
}

type gaps []Gap

// offsets is how many offsets lie in the gaps.
func (g gaps) offsets() (n int64) {
	for _, gap := range g {
		n += gap.To - gap.From
	}
	return n
}

func (g gaps) has(partition int32, offset int64) bool {
	return slices.ContainsFunc(g, func(gap Gap) bool {
		return gap.Partition == partition && gap.From <= offset && offset < gap.To
	})
}

// hasRow says whether a row of table events lies in one of the gaps, and where.
func (g gaps) hasRow(row []string) (sim.Position, bool) {
	if len(g) == 0 {
		return sim.Position{}, false
	}
	p, err1 := strconv.ParseInt(row[eventPartition], 10, 32)
	o, err2 := strconv.ParseInt(row[eventOffset], 10, 64)
	at := sim.Position{Partition: int32(p), Offset: o}
	return at, err1 == nil && err2 == nil && g.has(at.Partition, at.Offset)
}

// missing returns, by session, the rows of the truth that lie in the gaps and that the table does not have, and how
// many there are. present are the positions in the gaps that it has.
func (x *index) missing(g gaps, truth []sim.Source, present map[sim.Position]bool) (map[int32]digest, int64, error) {
	if len(g) == 0 {
		return nil, 0, nil
	}
	out, n := map[int32]digest{}, int64(0)
	for _, src := range truth {
		if err := src.Each(func(l sim.Line) error {
			if l.Session == nil {
				return nil
			}
			i := x.byID[l.Session.SessionID]
			for _, e := range l.Session.Events {
				if g.has(e.Partition, e.Offset) && !present[e.Position] {
					d := out[i]
					d.add(e.Mark.Hash())
					out[i], n = d, n+1
				}
			}
			return nil
		}); err != nil {
			return nil, 0, fmt.Errorf("verify: %w", err)
		}
	}
	return out, n, nil
}
