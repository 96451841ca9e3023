package delta

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"deckle/event"
)

// givenKind stands between the application id of a shard's raw events and the range that a commit has passed, in the
// application id of a txn of its own:
//
//	<cluster>/<pipeline>/<shard>/events/given/<partition>/<from>-<to>        version: the plan's last epoch
//
// It is in the same commit as the rows around it, in every checkpoint after it, and no cleanup of the log removes it.
// So whoever reads the table knows which of its rows may be missing.
const givenKind = "/events/given/"

// givenID is the application id that says that the rows of a range of offsets may be missing in the table, because an
// operator has given them up. appID is that of the shard's raw events.
func givenID(appID string, r event.Range) string {
	return fmt.Sprintf("%s/given/%d/%d-%d", appID, r.Partition, r.From, r.To)
}

// parseGiven is the inverse of givenID; false for any other application id.
func parseGiven(id string) (r event.Range, ok bool) {
	i := strings.LastIndex(id, givenKind)
	if i < 0 {
		return r, false
	}
	partition, offsets, _ := strings.Cut(id[i+len(givenKind):], "/")
	from, to, _ := strings.Cut(offsets, "-")
	p, err1 := strconv.ParseUint(partition, 10, 31)
	f, err2 := strconv.ParseUint(from, 10, 63)
	t, err3 := strconv.ParseUint(to, 10, 63)
	r = event.Range{Partition: int32(p), From: int64(f), To: int64(t)}
	return r, err1 == nil && err2 == nil && err3 == nil && f < t
}

// Given returns the offsets of which table "events" may lack rows, because operators have given them up: ascending by
// (partition, from).
func (s *Snapshot) Given() (out []event.Range) {
	for id := range s.Txns {
		if r, ok := parseGiven(id); ok {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b event.Range) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.From, b.From))
	})
	return out
}
