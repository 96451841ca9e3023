package node

import (
	gometrics "runtime/metrics"
	"slices"
	"time"

	"deckle"
	"deckle/node/status"
	"deckle/raftstore"
	"deckle/schema/level"
	"deckle/trust"
)

// usage is what a node takes of its machine, as of the last look at the budgets.
type usage struct {
	disk, sessions, files status.Fill
	free, memory          int64
}

// figuresOf puts together what a node tells of itself. maxLevel is the configuration's bound of its level, 0 for none.
func figuresOf(rs *raftstore.Status, lags []ledLag, u usage, files []trust.FileState, started time.Time,
	maxLevel uint32) *status.Figures {
	f := &status.Figures{Version: deckle.Build().Version, Knows: uint32(level.Current),
		Has: uint32(level.Current), Started: started, Disk: u.disk,
		DiskFree: u.free, Memory: u.memory, Sessions: u.sessions, Files: u.files,
		Drained: rs.Drained}
	if maxLevel > 0 {
		f.Knows = min(f.Knows, maxLevel)
	}
	if rs.Ready {
		for i := range rs.Groups {
			g := &rs.Groups[i]
			if f.Level == 0 || g.Level < f.Level {
				f.Level = g.Level
			}
			f.Highest = max(f.Highest, g.Level)
			if g.IsLeader {
				f.Leads = append(f.Leads, g.Shard)
			} else {
				f.Follows = append(f.Follows, g.Shard)
			}
		}
	}
	slices.Sort(f.Leads)
	slices.Sort(f.Follows)
	f.LagRecords = new(int64)
	for _, l := range lags {
		if l.Lag.Records == nil || f.LagRecords == nil {
			f.LagRecords = nil
		} else {
			*f.LagRecords += *l.Lag.Records
		}
		if s := l.Lag.Seconds; s != nil && (f.LagSeconds == nil || *s > *f.LagSeconds) {
			f.LagSeconds = s
		}
	}
	for _, s := range files {
		if !s.NotAfter.IsZero() {
			f.Certificates = append(f.Certificates, status.Certificate{Key: s.Key, NotAfter: s.NotAfter})
		}
	}
	return f
}

// processBytes is the memory that the process holds: what Go's runtime has taken of the system and not given back.
func processBytes() int64 {
	s := []gometrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	gometrics.Read(s)
	if s[0].Value.Kind() != gometrics.KindUint64 || s[1].Value.Kind() != gometrics.KindUint64 {
		return 0
	}
	return int64(s[0].Value.Uint64()) - int64(s[1].Value.Uint64())
}
