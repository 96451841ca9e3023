package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// slack is how far clocks of writers and store may be apart before a tombstone counts as forgotten too early.
const slack = 24 * time.Hour

// compare finds what a checkpoint says otherwise than the replay of the commits up to its version.
func (c *checker) compare(cp *Checkpoint, s, replay *State) {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	lacks, more, other := byExample{}, byExample{}, byExample{}
	for id, f := range replay.Files {
		g := s.Files[id]
		switch {
		case g == nil:
			lacks.add(f.Path)
		case f.Size != g.Size || f.Modified != g.Modified || f.Partition != g.Partition || f.Records != g.Records &&
			g.Records >= 0 || f.statsSum != g.statsSum && g.statsSum != 0:
			other.add(f.Path)
		}
	}
	for id, f := range s.Files {
		if replay.Files[id] == nil {
			more.add(f.Path)
		}
	}
	lacks.tell(fault, "lacks %d live files")
	more.tell(fault, "has %d files that are not live")
	other.tell(fault, "has another size, time, partition or statistics for %d files")
	tombstones := byExample{}
	retention, err := DeletedFileRetention(replay.Metadata)
	if err != nil {
		retention = DefaultRetention
	}
	since := cp.Written.Add(slack - retention).UnixMilli()
	for id, r := range replay.Removed {
		if _, ok := s.Removed[id]; !ok && r.DeletionTimestamp != nil && *r.DeletionTimestamp > since {
			tombstones.add(r.Path)
		}
	}
	tombstones.tell(fault, "has forgotten %d tombstones inside the retention")
	_, forgets := replay.Metadata.Configuration["delta.setTransactionRetentionDuration"]
	for _, d := range changes(versionsOf(replay), versionsOf(s)) {
		if d.To != nil || !forgets {
			fault("has txn %s at %s, not %s", d.Name, textOr(d.To), textOr(d.From))
		}
	}
	for _, d := range slices.Concat(changes(protocolTexts(replay.Protocol), protocolTexts(s.Protocol)),
		changes(metadataTexts(replay), metadataTexts(s)), changes(replay.Domains, s.Domains)) {
		fault("has %s %s, not %s", d.Name, textOr(d.To), textOr(d.From))
	}
	if len(faults) > 0 {
		c.find(CheckpointDiffers, cp.Keys[0], cp.Version, "by the commits up to it, it %s", strings.Join(faults, "; "))
	}
}

// byExample counts, and keeps the least name, so that the same fault is always told in the same words.
type byExample struct {
	n     int
	first string
}

func (b *byExample) add(name string) {
	if b.n++; b.first == "" || name < b.first {
		b.first = name
	}
}

func (b *byExample) tell(fault func(string, ...any), format string) {
	if b.n > 0 {
		fault(format+" (%s)", b.n, b.first)
	}
}

func textOr(s *string) string {
	if s == nil {
		return "nothing"
	}
	return *s
}

func versionsOf(s *State) map[string]string {
	m := map[string]string{}
	for id, t := range s.Txns {
		m[id] = fmt.Sprint(t.Version)
	}
	return m
}

func metadataTexts(s *State) map[string]string {
	m := map[string]string{"id": s.Metadata.ID, "schema": s.Metadata.SchemaString,
		"partition columns": strings.Join(s.Metadata.PartitionColumns, ", ")}
	for _, k := range slices.Sorted(maps.Keys(s.Metadata.Configuration)) {
		m["property "+k] = s.Metadata.Configuration[k]
	}
	return m
}
