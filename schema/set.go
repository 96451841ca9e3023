package schema

import (
	"deckle/event"
	"deckle/schema/level"
)

// Set is what the tables are made of: the columns of sessions, of their pages and of the raw events, and the measures
// of the rollups. What uses it compiles it once for each level; nothing is chosen row by row.
type Set struct {
	Sessions []Column[SessionRow]
	Pages    []PageColumn
	Events   []Column[event.Item]
	Measures []Measure
}

// All returns everything that this package declares. The slices are those of the package and must not be changed.
func All() Set { return Set{Sessions: Sessions, Pages: Pages, Events: Events, Measures: Measures[:]} }

// UpTo returns what the tables of a level have: the beginning of each list (H4).
func (s Set) UpTo(l level.Level) Set {
	return Set{
		Sessions: upTo(s.Sessions, l, func(c *Column[SessionRow]) level.Level { return c.Since }),
		Pages:    upTo(s.Pages, l, func(c *PageColumn) level.Level { return c.Since }),
		Events:   upTo(s.Events, l, func(c *Column[event.Item]) level.Level { return c.Since }),
		Measures: upTo(s.Measures, l, func(m *Measure) level.Level { return m.Since }),
	}
}

func upTo[T any](all []T, l level.Level, since func(*T) level.Level) []T {
	n := len(all)
	for n > 0 && since(&all[n-1]) > l {
		n--
	}
	return all[:n:n]
}

// Later tells whether what came with that level is missing in tables that were made at level.First.
func Later(since level.Level) bool { return since > level.First }
